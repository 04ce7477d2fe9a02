"""``tidegate chat``: one question over a WebSocket, the answer as it comes, through dropped connections."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import TextIO
from urllib.parse import urlsplit, urlunsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI

from app.cli.conversation import Conversation, ConversationFailed, End
from app.observe.tasks import TaskSet

__all__ = ["ask", "socket_url"]

PATH = "/api/v1/ws"
_LARGEST_FRAME = 16 * 1024 * 1024
_FIRST_DELAY, _LONGEST_DELAY = 0.2, 5.0
_MOST_ATTEMPTS = 20
"""Connections in a row that brought nothing."""
_CANCEL_PATIENCE = 5.0
"""Seconds that a cancelled generation has to end."""
_ONE_PRESS = 0.3
"""Seconds within which a second signal is the same wish: some senders signal a process and its group."""
_FINAL_CODES = frozenset({1003, 1007, 1008, 1009, *range(4400, 4410), *range(4500, 5000)})
"""Close codes after which the same token and command would end the same way."""


def socket_url(url: str) -> str:
    """Return the socket's address for a gateway's: ``http://host`` and ``ws://host/`` are completed.

    Raises :exc:`ConversationFailed`.
    """
    parts = urlsplit(url if "://" in url else f"ws://{url}")
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    if scheme not in {"ws", "wss"} or not parts.hostname:
        raise ConversationFailed(f"{url} is not the address of a gateway. Write it like ws://127.0.0.1:8080.")
    return urlunsplit((scheme, parts.netloc, parts.path if len(parts.path) > 1 else PATH, parts.query, ""))


async def ask(conversation: Conversation, url: str, token: str, output: TextIO, notes: TextIO) -> End:
    """Hold ``conversation`` with the gateway at ``url``; write the answer to ``output`` and what happens to ``notes``.

    Connects again and resumes by itself; Ctrl-C cancels the generation. Raises :exc:`ConversationFailed`.
    """
    session = _Session(conversation, socket_url(url), token, output, notes)
    loop = asyncio.get_running_loop()
    with contextlib.suppress(NotImplementedError):  # Windows
        loop.add_signal_handler(signal.SIGINT, session.interrupt)
    try:
        return await session.run()
    except asyncio.CancelledError:
        if not session.interrupted:
            raise
        raise ConversationFailed("Stopped before the gateway confirmed that the generation ended.") from None
    finally:
        with contextlib.suppress(NotImplementedError):
            loop.remove_signal_handler(signal.SIGINT)
        await session.tasks.close()


class _Session:
    def __init__(self, conversation: Conversation, url: str, token: str, output: TextIO, notes: TextIO) -> None:
        self.interrupted = False
        self.tasks = TaskSet()
        self._conversation = conversation
        self._url = url
        self._headers = {"Authorization": f"Bearer {token}"}
        self._output = output
        self._notes = notes
        self._socket: ClientConnection | None = None
        self._interrupted_at = 0.0
        self._met = False
        """Whether there was a gateway at all."""
        task = asyncio.current_task()
        assert task is not None, "a session is made in a coroutine"
        self._task = task

    def interrupt(self) -> None:
        """Ask for the generation's end; the second time, or when there is none yet, stop at once."""
        loop = asyncio.get_running_loop()
        command = self._conversation.cancel()
        if self.interrupted and loop.time() - self._interrupted_at < _ONE_PRESS:
            return
        if self.interrupted or command is None:
            self.interrupted = True
            self._task.cancel()
            return
        self.interrupted, self._interrupted_at = True, loop.time()
        self._note("cancelling; Ctrl-C again to leave at once")
        loop.call_later(_CANCEL_PATIENCE, self._task.cancel)
        if self._socket is not None:
            self.tasks.start(self._send(self._socket, command), "cancel")

    async def run(self) -> End:
        attempts = 0
        while True:
            if await self._try():
                attempts = 0
            if self._conversation.end is not None:
                return self._conversation.end
            attempts += 1
            if attempts > _MOST_ATTEMPTS:
                raise ConversationFailed(f"The gateway at {self._url} did not come back.")
            self._note("connection lost, connecting again")
            await asyncio.sleep(self._delay(attempts))

    def _delay(self, attempts: int) -> float:
        asked, self._conversation.reconnect_delay = self._conversation.reconnect_delay, None
        return min(_FIRST_DELAY * 2 ** (attempts - 1), _LONGEST_DELAY) if asked is None else asked

    async def _try(self) -> bool:
        """Live through one connection; return whether it brought something."""
        try:
            async with connect(
                self._url, additional_headers=self._headers, max_size=_LARGEST_FRAME, compression=None
            ) as self._socket:
                self._met = True
                return await self._converse(self._socket)
        except (OSError, TimeoutError) as error:
            if not self._met:
                raise ConversationFailed(
                    f"Nothing answers at {self._url} ({error}). Start a gateway, for example: tidegate demo"
                ) from None
        except InvalidStatus as error:
            self._refuse(error.response.status_code)
        except (InvalidHandshake, InvalidURI):
            raise ConversationFailed(f"What listens at {self._url} does not speak WebSocket.") from None
        finally:
            self._socket = None
        return False

    async def _converse(self, socket: ClientConnection) -> bool:
        brought = False
        try:
            await socket.send(self._conversation.opening())
            if self.interrupted and (command := self._conversation.cancel()):
                await socket.send(command)
            while self._conversation.end is None:
                text = self._conversation.receive(await socket.recv())
                if text:
                    brought = True
                    self._output.write(_printable(text))
                    self._output.flush()
        except ConnectionClosed as closed:
            code = closed.rcvd.code if closed.rcvd else 1006
            if code in _FINAL_CODES:
                reason = closed.rcvd.reason if closed.rcvd else ""
                raise ConversationFailed(f"The gateway ended the connection: {reason} ({code}).") from None
        return brought

    def _refuse(self, status: int) -> None:
        if status in {401, 403}:
            raise ConversationFailed(
                f"The gateway refused the token (status {status}). Name its configuration, with --config or --preset, "
                'or a token: --token "$TOKEN"'
            )
        if status < 500 and status != 429:
            raise ConversationFailed(f"There is no socket of a gateway at {self._url} (status {status}).")
        self._met = True

    async def _send(self, socket: ClientConnection, command: str) -> None:
        with contextlib.suppress(ConnectionClosed):
            await socket.send(command)

    def _note(self, text: str) -> None:
        self._notes.write(f"\n[{text}]\n")
        self._notes.flush()


def _printable(text: str) -> str:
    """Return ``text`` without the control characters by which an answer could move the cursor or change colours."""
    return "".join(character for character in text if character in "\n\t" or character.isprintable())
