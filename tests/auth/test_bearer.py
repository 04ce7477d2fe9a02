"""One reading of Authorization for all who take tokens."""

import pytest

from app.auth.bearer import bearer_token
from app.errors import BadRequest, InvalidToken


@pytest.mark.parametrize(
    ("headers", "token"),
    [
        ([], None),
        ([(b"authorization", b"Bearer abc")], "abc"),
        ([(b"authorization", b"bearer  abc ")], "abc"),
        ([(b"authorization", b"BEARER abc")], "abc"),
        ([(b"authorization", b"Basic abc")], None),
        ([(b"authorization", b"Negotiate Bearer abc")], None),
        ([(b"authorization", b"abc")], None),
        ([(b"authorization", b"")], None),
        ([(b"x-authorization", b"Bearer abc")], None),
    ],
)
def test_the_bearer_token_is_found_and_another_scheme_is_as_good_as_none(headers, token):
    assert bearer_token(headers) == token


@pytest.mark.parametrize("value", [b"Bearer ", b"Bearer", b"Bearer   "])
def test_a_bearer_header_without_a_token_is_refused(value):
    with pytest.raises(InvalidToken, match="holds no token"):
        bearer_token([(b"authorization", value)])


@pytest.mark.parametrize("values", [(b"Bearer a", b"Bearer a"), (b"Basic a", b"Bearer b")])
def test_which_of_two_headers_counts_cannot_be_told(values):
    with pytest.raises(BadRequest):
        bearer_token([(b"authorization", value) for value in values])
