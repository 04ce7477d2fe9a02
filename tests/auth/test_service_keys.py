"""Keys of services: one of them, shown once."""

import pytest

from app.auth.service_keys import ServiceKeys
from app.errors import InvalidServiceKey

KEYS = ServiceKeys(["first-key", "", "second-key"])


@pytest.mark.parametrize(
    "headers",
    [
        [(b"x-service-key", b"first-key")],
        [(b"x-internal-key", b"second-key")],
        [(b"accept", b"*/*"), (b"x-service-key", b"second-key")],
    ],
)
def test_each_of_the_keys_is_good_in_either_header(headers):
    KEYS.check(headers)


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"x-service-key", b"")],
        [(b"x-service-key", b"first-key ")],
        [(b"x-service-key", b"first-ke")],
        [(b"x-service-key", b"\xff\xff")],
        [(b"authorization", b"first-key")],
        [(b"x-service-key", b"first-key"), (b"x-service-key", b"first-key")],
        [(b"x-service-key", b"first-key"), (b"x-internal-key", b"wrong")],
    ],
)
def test_anything_else_is_refused(headers):
    with pytest.raises(InvalidServiceKey):
        KEYS.check(headers)
    with pytest.raises(InvalidServiceKey):
        ServiceKeys().check(headers)
