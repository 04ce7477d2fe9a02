"""docs/services.md names every setting, endpoint and event that there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fastapi import FastAPI

from services.analytics.app import create_app as create_analytics
from services.analytics.settings import AnalyticsSettings
from services.chat.model import LanguageModel
from services.chat.settings import ChatSettings
from services.chatui.app import create_app as create_chatui
from services.chatui.settings import ChatUiSettings
from services.code.app import create_app as create_code
from services.code.settings import CodeSettings
from services.image.app import create_app as create_image
from services.image.settings import ImageSettings
from services.ingest.app import create_app as create_ingest
from services.ingest.settings import IngestSettings
from services.organisations.app import create_app as create_organisations
from services.organisations.settings import OrganisationsSettings
from services.query.app import create_app as create_query
from services.query.settings import QuerySettings
from services.speech.app import create_app as create_speech
from services.speech.settings import SpeechSettings
from services.summarizer.app import create_app as create_summarizer
from services.summarizer.settings import SummarizerSettings
from services.users.app import create_app as create_users
from services.users.settings import UsersSettings
from services.web.settings import ServiceSettings

PAGE = (Path(__file__).parents[2] / "docs" / "services.md").read_text()


SETTINGS = [
    AnalyticsSettings, ChatSettings, ChatUiSettings, CodeSettings, ImageSettings, IngestSettings,
    OrganisationsSettings, QuerySettings, SpeechSettings, SummarizerSettings, UsersSettings,
]  # fmt: skip


@pytest.mark.parametrize("settings", SETTINGS)
def test_every_setting_is_on_the_page_and_no_other(settings: type[ServiceSettings]) -> None:
    named = {name for name in re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE) if name.startswith(settings.prefix)}
    assert named == {settings.prefix + name.upper() for name in settings.model_fields}


def test_every_endpoint_is_on_the_page(tmp_path: Path, language: LanguageModel) -> None:
    apps: list[FastAPI] = [
        create_code(),
        create_image(ImageSettings(storage=str(tmp_path / "image"))),
        create_ingest(IngestSettings(library=str(tmp_path / "library"))),
        create_query(QuerySettings(library=str(tmp_path / "library"))),
        create_speech(SpeechSettings(storage=str(tmp_path / "speech"))),
        create_analytics(AnalyticsSettings(database_url=f"sqlite:///{tmp_path}/analytics.db")),
        create_summarizer(SummarizerSettings(storage=str(tmp_path / "summaries"))),
        create_organisations(OrganisationsSettings(database_url=f"sqlite:///{tmp_path}/organisations.db")),
        create_chatui(ChatUiSettings(database_url=f"sqlite:///{tmp_path}/chatui.db"), language),
        create_users(UsersSettings(database_url=f"sqlite:///{tmp_path}/users.db")),
    ]
    # A path's last parts stand on the page behind an ellipsis where its beginning was named before.
    ends = ("/events", "/download", "/file/{name}", "/models", "/openapi.json", "/health", "/healthz")
    for app in apps:
        for path in app.openapi()["paths"]:
            shown = path.replace("{item_id}", "{id}")
            assert shown in PAGE or shown.endswith(ends), path
