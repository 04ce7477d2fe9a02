from __future__ import annotations

import pytest

from app.auth.identity import ANONYMOUS, Identity
from app.config import ChannelConfig, RealtimeConfig
from app.errors import BadRequest, NotFound, PermissionDenied
from app.ws.channels import authorise_subscribe

ALICE = Identity("alice", "acme")
ROOM = ChannelConfig(allow_subscribe=True, history_size=5, history_ttl=9)
OPEN = RealtimeConfig(namespaces={"room": ROOM, "closed": ChannelConfig()}, channel=ChannelConfig(allow_subscribe=True))
SHUT = RealtimeConfig()


def test_an_open_namespaces_channel_is_open_to_users_with_its_own_settings():
    assert authorise_subscribe(OPEN, ALICE, "room:1") is ROOM
    assert authorise_subscribe(OPEN, ALICE, "lobby") is OPEN.channel
    assert authorise_subscribe(OPEN, ALICE, "room:a:b") is ROOM


def test_a_user_has_his_own_channel_and_no_others():
    assert authorise_subscribe(SHUT, ALICE, "user:alice") is SHUT.channel
    for channel in ("user:bob", "user:", "user:alice:x", "user:ALICE"):
        with pytest.raises(PermissionDenied):
            authorise_subscribe(SHUT, ALICE, channel)


def test_the_personal_channel_may_have_settings_of_its_own():
    config = RealtimeConfig(namespaces={"user": ROOM})
    assert authorise_subscribe(config, ALICE, "user:alice") is ROOM
    with pytest.raises(PermissionDenied):
        authorise_subscribe(config, ALICE, "user:bob")


@pytest.mark.parametrize("channel", ["room:1", "lobby", "user:", "user:None"])
def test_an_anonymous_one_may_listen_to_nothing(channel):
    with pytest.raises(PermissionDenied):
        authorise_subscribe(OPEN, ANONYMOUS, channel)


def test_what_is_not_allowed_is_denied_and_what_is_not_configured_is_not_there():
    with pytest.raises(PermissionDenied):
        authorise_subscribe(SHUT, ALICE, "lobby")
    with pytest.raises(PermissionDenied):
        authorise_subscribe(OPEN, ALICE, "closed:1")
    with pytest.raises(NotFound, match="'nowhere'"):
        authorise_subscribe(OPEN, ALICE, "nowhere:1")
    with pytest.raises(NotFound):
        authorise_subscribe(OPEN, ALICE, ":1")


@pytest.mark.parametrize("channel", ["room:a b", "room:a\n", "room:\x00", "room:\u2028", "user:alice "])
def test_a_name_with_spaces_or_control_characters_is_none(channel):
    with pytest.raises(BadRequest):
        authorise_subscribe(OPEN, ALICE, channel)
