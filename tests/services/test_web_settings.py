from __future__ import annotations

from typing import ClassVar

import pytest

from services.web.settings import HttpUrl, ServiceSettings, SettingsError


class Settings(ServiceSettings):
    prefix: ClassVar[str] = "LAMP_"
    together: ClassVar[tuple[str, ...]] = ("server", "key", "model")

    server: HttpUrl | None = None
    key: str | None = None
    model: str | None = None


ALL = {"LAMP_SERVER": "https://lamp/v1", "LAMP_KEY": "k", "LAMP_MODEL": "m"}


def test_settings_that_go_together_are_all_set_or_none():
    assert Settings.from_environ({}).key is None
    assert Settings.from_environ(ALL).key == "k"


@pytest.mark.parametrize("missing", ALL)
def test_where_one_of_them_is_missing_all_are_named(missing):
    with pytest.raises(SettingsError, match="LAMP_SERVER and LAMP_KEY and LAMP_MODEL go together"):
        Settings.from_environ({name: value for name, value in ALL.items() if name != missing})


def test_an_address_has_no_slash_at_its_end():
    assert Settings.from_environ(ALL | {"LAMP_SERVER": "http://lamp/v1//"}).server == "http://lamp/v1"


@pytest.mark.parametrize("address", ["lamp/v1", "ftp://lamp", "//lamp"])
def test_an_address_that_is_not_http_is_refused_by_the_name_of_its_variable(address):
    with pytest.raises(SettingsError, match=r"^LAMP_SERVER: .*must start with http:// or https://$"):
        Settings.from_environ(ALL | {"LAMP_SERVER": address})
