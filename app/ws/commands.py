"""What the native protocol's commands do. Those that must ask the log answer by one reply each, in order."""

from __future__ import annotations

from typing import Any

from app.auth.identity import Identity
from app.auth.keys import UnknownKey
from app.errors import NotFound, TidegateError
from app.generations.channels import GENERATION_PREFIX
from app.ws.commander import Asker
from app.ws.joining import check_subscriptions, generate, put, remove, reply, resume, subscribe
from app.ws.orders import Put, Remove
from app.ws.protocols.actions import End
from app.ws.protocols.native import NativeProtocol
from app.ws.protocols.native_commands import (
    Authenticate,
    Cancel,
    Close,
    Generate,
    Later,
    Options,
    Resume,
    Subscribe,
    Unsubscribe,
)
from app.ws.protocols.native_encoding import channel_fields, error_message

__all__ = ["NativeCommander"]

_LEFT: Any = object()


class NativeCommander:
    """:class:`~app.ws.session.Commander` of one socket."""

    def __init__(self, protocol: NativeProtocol) -> None:
        self._protocol = protocol

    def at_once(self, asker: Asker, action: Any) -> bool:
        match action:
            case Authenticate():
                if asker.services.admission.counts_users and not action.refresh:
                    self._protocol.defer()
                    return False
                return self._authenticate(asker, action)
            case Close():
                error = action.error
                asker.run([End(error.close_code or 1011, error.code, error_message(error))])
            case Options():
                asker.roll_up(action.rollup)
                reply(asker, action.id)
            case _:
                return False
        return True

    async def perform(self, asker: Asker, action: Any) -> None:
        """Carry out one command that must ask the log."""
        match action:
            case Authenticate():
                await self._admit(asker, action)
                asker.run(self._protocol.proceed())
            case Later():
                asker.run(self._protocol.proceed(action.data))
            case Generate():
                await generate(asker, action)
            case Cancel():
                status = await asker.services.generations.cancel(asker.identity, action.generation_id)
                reply(asker, action.id, generation_id=action.generation_id, status=status)
            case Subscribe() if action.wait and action.channel not in asker.subscriptions:
                check_subscriptions(asker, 1)
                asker.subscriptions[action.channel] = None  # It counts, so that waiting is bounded, too.
                asker.services.tasks.start(self._subscribe_later(asker, action), "a subscription that waits")
            case Subscribe():
                await subscribe(asker, action)
            case Unsubscribe():
                if not asker.unsubscribe(action.channel):
                    raise NotFound("This socket is not subscribed to it.")
                reply(asker, action.id, **channel_fields(action.channel))
            case Put():
                await put(asker, self._protocol, action)
            case Remove():
                remove(asker, self._protocol, action)
            case Resume():
                await resume(asker, action)
            case _:
                raise AssertionError(f"{type(action).__name__} is no command that asks the log")

    async def _subscribe_later(self, asker: Asker, action: Subscribe) -> None:
        """Subscribe when the generation is there. The commands behind this one go on meanwhile."""
        generation_id = action.channel[len(GENERATION_PREFIX) :]
        try:
            try:
                await asker.services.generations.find(asker.identity, generation_id, action.wait)
            finally:
                waiting = asker.subscriptions.pop(action.channel, _LEFT) is None
            if waiting and not asker.closed:
                await subscribe(asker, action)
        except TidegateError as error:
            if not asker.closed:
                asker.run(self._protocol.failed(action, error))

    def left(self, asker: Asker, channel: str) -> None:
        """Nobody is told of it."""

    def _authenticate(self, asker: Asker, action: Authenticate) -> bool:
        """Verify a token by the keys that are known; False where that may have to wait for others."""
        try:
            identity = asker.services.verifier.verify(action.token)
        except UnknownKey:
            self._protocol.defer()
            return False
        except TidegateError as error:
            asker.run(self._protocol.refused(error, id_=action.id))
        else:
            self._accept(asker, action, identity)
        return True

    async def _admit(self, asker: Asker, action: Authenticate) -> None:
        """Let a user in if the token is good and he may have one more socket."""
        verifier = asker.services.verifier
        try:
            identity = await verifier.verified(action.token)
            if asker.identity.anonymous:
                await asker.admit(identity)
                identity = verifier.verify(action.token)  # It may be over, or revoked, since.
        except TidegateError as error:
            asker.run(self._protocol.refused(error, id_=action.id))
            return
        self._accept(asker, action, identity)

    def _accept(self, asker: Asker, action: Authenticate, identity: Identity) -> None:
        now = asker.services.clock()
        asker.run(self._protocol.authenticated(identity, now, id_=action.id, refresh=action.refresh))
        asker.let_in()
