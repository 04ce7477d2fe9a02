"""What commands do that must ask the log: each answers by one reply, in order, on its session."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from app.errors import BadRequest, BrokerUnavailable, NotFound, PermissionDenied, TooManyRequests
from app.streams.catchup import join
from app.streams.hub import Subscription
from app.streams.merge import NeverMerge
from app.streams.position import Position
from app.streams.recovery import Recovery
from app.ws.channels import authorise_subscribe
from app.ws.frames import text_frame
from app.ws.protocols.native import Cancel, Generate, Resume, Subscribe, Unsubscribe
from app.ws.protocols.native_encoding import GENERATION_PREFIX, channel_fields, message

if TYPE_CHECKING:
    from app.ws.session import Session

__all__ = ["perform"]

_NEVER_MERGE = NeverMerge()


async def perform(session: Session, action: Any) -> None:
    """Carry out one command. Raises :exc:`~app.errors.TidegateError`, which is then its answer."""
    match action:
        case Generate():
            await _generate(session, action)
        case Cancel():
            status = await session.services.generations.cancel(session.identity, action.generation_id)
            _reply(session, action.id, generation_id=action.generation_id, status=status)
        case Subscribe():
            await _subscribe(session, action)
        case Unsubscribe():
            if not session.unsubscribe(action.channel):
                raise NotFound("This socket is not subscribed to it.")
            _reply(session, action.id, **channel_fields(action.channel))
        case Resume():
            await _resume(session, action)
        case _:
            raise AssertionError(f"{type(action).__name__} is no command that asks the log")


async def _generate(session: Session, action: Generate) -> None:
    generation_id, _ = await session.services.generations.start(session.identity, action.request)
    channel = GENERATION_PREFIX + generation_id
    if channel in session.subscriptions:
        _reply_standing(session, action.id, channel)
        return

    def send(recovery: Recovery) -> None:
        position = recovery.position
        reply = {"generation_id": generation_id, "channel": channel, "epoch": position.epoch, "offset": position.offset}
        _send_recovery(session, channel, recovery, message("reply", id=action.id, ok=True, **reply))

    await _watch(session, channel, None, send)


async def _subscribe(session: Session, action: Subscribe) -> None:
    channel = action.channel
    if channel in session.subscriptions:
        _reply_standing(session, action.id, channel)
        return

    def send(recovery: Recovery) -> None:
        position = recovery.position
        reply = {"epoch": position.epoch, "offset": position.offset, "recovered": recovery.recovered}
        named = channel_fields(channel)
        _send_recovery(session, channel, recovery, message("reply", id=action.id, ok=True, **named, **reply))

    if channel.startswith(GENERATION_PREFIX):
        await _watch(session, channel, action.since, send)
        return
    services = session.services
    authorise_subscribe(services.config, session.identity, channel)
    if action.since is not None and not action.since.epoch:
        raise BadRequest("offset needs the epoch that it belongs to.")

    async def attach() -> Subscription:
        return await join(
            services.hub,
            services.broker,
            channel,
            session,
            action.since,
            replay=False,
            rule=_NEVER_MERGE,
            send=send,
        )

    await _attach(session, channel, attach)


async def _resume(session: Session, action: Resume) -> None:
    """Answer for all streams in one reply; what each has missed follows it."""
    generations = session.services.generations
    answers: dict[str, dict[str, Any]] = {}
    wanted: dict[str, Position] = {}
    for generation_id, since in action.streams.items():
        try:
            record = await generations.record(session.identity, generation_id)
        except (NotFound, PermissionDenied) as error:
            answers[generation_id] = {"status": "gone", "code": error.code}
            continue
        follows = since.epoch in {"", record.epoch} and since.offset <= record.top
        start = Position(record.epoch, since.offset if follows else 0)
        status = "finished" if record.closed else "resumed" if record.top else "pending"
        answers[generation_id] = {"status": status, "epoch": start.epoch, "offset": start.offset, "recovered": follows}
        wanted[generation_id] = start
    _reply(session, action.id, streams=answers)
    for generation_id, start in wanted.items():
        channel = GENERATION_PREFIX + generation_id
        if channel in session.subscriptions:
            continue

        def send(recovery: Recovery, channel: str = channel) -> None:
            if not recovery.recovered:
                session.send(text_frame(message("gap", **channel_fields(channel), message="It begins again.")))
            _send_recovery(session, channel, recovery, None)

        await _watch(session, channel, start, send)


async def _watch(session: Session, channel: str, since: Position | None, send: Callable[[Recovery], None]) -> None:
    generation_id = channel[len(GENERATION_PREFIX) :]

    async def attach() -> Subscription:
        return await session.services.generations.watch(session.identity, generation_id, session, since, send)

    await _attach(session, channel, attach)


async def _attach(session: Session, channel: str, attach: Callable[[], Any]) -> None:
    """Join and remember the subscription, unless it ended or the socket closed meanwhile."""
    limit = session.services.config.max_subscriptions
    if len(session.subscriptions) >= limit:
        raise TooManyRequests(f"A socket may have {limit} subscriptions.")
    session.subscriptions[channel] = None
    try:
        subscription = await attach()
    except BaseException:
        session.subscriptions.pop(channel, None)
        raise
    if channel in session.subscriptions:
        session.subscriptions[channel] = subscription
    else:
        session.services.hub.drop(subscription)


def _reply(session: Session, id_: Any, **fields: Any) -> None:
    session.send(text_frame(message("reply", id=id_, ok=True, **fields)))


def _reply_standing(session: Session, id_: Any, channel: str) -> None:
    """Answer a subscription that the socket has already: nothing is sent twice."""
    position = session.services.hub.position(channel)
    if position is None:
        raise BrokerUnavailable("Its subscription is being set up. Wait for its reply.")
    at = {"epoch": position.epoch, "offset": position.offset}
    _reply(session, id_, **channel_fields(channel), **at, recovered=True, already=True)


def _send_recovery(session: Session, channel: str, recovery: Recovery, reply: bytes | None) -> None:
    """Send ``reply`` and what was missed in one write."""
    block = session.encoder.publications(channel, recovery.position.epoch, recovery.publications)
    session.send(text_frame(reply) + block if reply is not None else block)
