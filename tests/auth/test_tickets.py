"""One-time tickets."""

import asyncio

import pytest

from app.auth.identity import Identity
from app.auth.tickets import Tickets
from app.errors import InvalidToken, TokenExpired

NOW = 1_800_000_000.0
WHO = Identity("42", "acme", "a@b.example", ("admin", "dev"), "t1", NOW + 60, ("read", "write"), (("org", "7"),))


class Store:
    """Keys with a lifetime, by a clock of its own."""

    def __init__(self) -> None:
        self.now = 0.0
        self.values: dict[str, tuple[bytes, float]] = {}

    async def reserve(self, key: str, value: bytes, ttl: float) -> bytes | None:
        standing = await self._get(key)
        if standing is None:
            self.values[key] = (value, self.now + ttl)
        return standing

    async def take(self, key: str) -> bytes | None:
        value = await self._get(key)
        self.values.pop(key, None)
        return value

    async def _get(self, key: str) -> bytes | None:
        value, end = self.values.get(key, (None, 0.0))
        return value if self.now < end else None


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def tickets(store) -> Tickets:
    return Tickets(store, ttl=30)


async def test_a_ticket_stands_for_whom_it_was_issued(tickets):
    assert await tickets.redeem(await tickets.issue(WHO), NOW) == WHO


async def test_a_ticket_without_expiry_keeps_none(tickets):
    assert await tickets.redeem(await tickets.issue(Identity("42"))) == Identity("42")


async def test_a_ticket_can_be_redeemed_once(tickets):
    ticket = await tickets.issue(WHO)
    await tickets.redeem(ticket, NOW)
    with pytest.raises(InvalidToken, match="used"):
        await tickets.redeem(ticket, NOW)


async def test_of_many_at_once_one_redeems(tickets):
    ticket = await tickets.issue(WHO)
    results = await asyncio.gather(*(tickets.redeem(ticket, NOW) for _ in range(20)), return_exceptions=True)
    assert results.count(WHO) == 1
    assert sum(isinstance(result, InvalidToken) for result in results) == 19


async def test_a_ticket_ends_by_itself(tickets, store):
    ticket = await tickets.issue(WHO)
    store.now = 30.0
    with pytest.raises(InvalidToken):
        await tickets.redeem(ticket, NOW)


async def test_a_ticket_does_not_outlive_its_token(tickets):
    with pytest.raises(TokenExpired):
        await tickets.redeem(await tickets.issue(WHO), NOW + 60)


async def test_tickets_are_long_random_and_fit_into_a_url(tickets):
    issued = {await tickets.issue(WHO) for _ in range(50)}
    assert len(issued) == 50
    assert all(len(ticket) == 43 and ticket.replace("-", "").replace("_", "").isalnum() for ticket in issued)


async def test_the_store_never_sees_a_ticket(tickets, store):
    ticket = await tickets.issue(WHO)
    assert ticket not in repr(store.values)


@pytest.mark.parametrize("ticket", ["", "x", "x" * 43, "x" * 44, "é" * 43, "../" * 14 + "x", "x" * 42 + "\n"])
async def test_what_is_no_ticket_is_refused_without_being_repeated(tickets, ticket):
    with pytest.raises(InvalidToken) as caught:
        await tickets.redeem(ticket, NOW)
    assert not ticket or ticket == "x" or ticket not in caught.value.message
