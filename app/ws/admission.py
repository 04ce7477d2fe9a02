"""How many sockets may be there: of one address, one user, one company, and in all, over all replicas (promise G11).

Whoever opens a socket, of whatever transport, asks :meth:`Admission.admit` and keeps what it returns, adds to it when
the user becomes known, and hands it to :meth:`Admission.release` at the end. The counting itself is
:class:`~app.streams.slotkeeper.SlotKeeper`'s.
"""

from __future__ import annotations

import random

from app.auth.identity import Identity
from app.auth.peer import address_group
from app.config import LimitsConfig
from app.errors import TooManySockets
from app.streams.slotkeeper import SlotKeeper
from app.streams.slots import Claim

__all__ = ["Admission", "Held"]

Held = tuple[str, ...]
"""The subjects of which a socket holds a slot."""

_WORDS = {"ip": "from this address", "user": "of this user", "company": "of this company", "all": "in all"}


class Admission:
    """Who may open a socket; ``keeper`` counts them."""

    def __init__(self, limits: LimitsConfig, keeper: SlotKeeper) -> None:
        self._limits = limits
        self._keeper = keeper
        self.counts_users = bool(limits.sockets_per_user or limits.sockets_per_company)
        """Whether it matters who a socket's user is."""
        self._counts = bool(self.counts_users or limits.sockets or limits.sockets_per_ip)
        if self._counts:
            keeper.prepare()

    async def admit(self, held: Held = (), *, address: str | None = None, identity: Identity | None = None) -> Held:
        """Take the slots that a socket needs besides what it has ``held``, and return all that it holds then.

        ``address`` counts the socket itself, ``identity`` its user; None leaves it for later. Nothing was taken when
        this raises :exc:`~app.errors.TooManySockets`, or ``BrokerUnavailable`` where the count may not be guessed.
        """
        if not self._counts:
            return held
        claims = [claim for claim in self._claims(address, identity) if claim[0] not in held]
        if not claims:
            return held
        limits = self._limits
        refused = await self._keeper.take(claims, patience=limits.patience, without_redis=limits.without_redis)
        if refused:
            where = _WORDS[refused.partition(":")[0]]
            raise TooManySockets(
                f"There are as many sockets {where} as are allowed.", retry_after=random.uniform(2.0, 10.0)
            )
        return (*held, *(subject for subject, _ in claims))

    def release(self, held: Held) -> None:
        """Free what a socket held."""
        self._keeper.release(held)

    def _claims(self, address: str | None, identity: Identity | None) -> list[Claim]:
        limits = self._limits
        claims: list[Claim] = []
        if address is not None:
            claims.append(("all", limits.sockets))
            if address:
                claims.append((f"ip:{address_group(address)}", limits.sockets_per_ip))
        if identity is not None and identity.user_id is not None:
            claims.append((f"user:{identity.user_id}", limits.sockets_per_user))
            if identity.company_id is not None:
                claims.append((f"company:{identity.company_id}", limits.sockets_per_company))
        return [claim for claim in claims if claim[1]]
