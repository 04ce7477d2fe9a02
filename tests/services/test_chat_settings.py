from __future__ import annotations

import pytest

from services.chat.settings import ChatSettings
from services.web.settings import SettingsError


def test_the_environment_sets_them_and_arguments_win() -> None:
    environ = {"CHAT_TOKENS_PER_SECOND": "20", "CHAT_MODEL": "m", "CHAT_BASE_URL": "", "PATH": "/bin"}
    assert ChatSettings.from_environ(environ).tokens_per_second == 20
    settings = ChatSettings.from_environ(environ, tokens_per_second=0.0)
    assert (settings.tokens_per_second, settings.model, settings.base_url) == (0, "m", None)


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"CHAT_TOKENS_PER_SECOND": "fast"}, "CHAT_TOKENS_PER_SECOND"),
        ({"CHAT_TOKENS_PER_SECOND": "-1"}, "CHAT_TOKENS_PER_SECOND"),
        ({"CHAT_BASE_URL": "https://x/v1"}, "go together"),
        ({"CHAT_API_KEY": "sk-secret"}, "go together"),
        ({"CHAT_BASE_URL": "ftp://x", "CHAT_API_KEY": "sk-secret"}, "http"),
    ],
)
def test_a_wrong_setting_is_named_and_the_key_is_not(environ: dict[str, str], words: str) -> None:
    with pytest.raises(SettingsError, match=words) as caught:
        ChatSettings.from_environ(environ)
    assert "sk-secret" not in str(caught.value)


def test_the_key_is_not_shown() -> None:
    assert "sk-secret" not in repr(ChatSettings(base_url="http://x/v1/", api_key="sk-secret"))
