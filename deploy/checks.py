"""Tries a running llm-microservices system as its users would: ``python deploy/checks.py auth --url http://host:8080``.

Each request is a line: method, path, status, milliseconds. The exit status is 1 with a sentence at the first answer
that is not what it should be. Needs nothing but Python.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["main"]

_PATIENCE = 120.0
"""Seconds for one answer: a picture is made while its request waits."""
_SETTLING = 30.0
"""Seconds in which services that have just started must be found well: the gateway looks at them now and then."""


class CheckFailed(Exception):
    """An answer is not what it should be, or there is none; the message is for who runs the check."""


@dataclass(frozen=True)
class Answer:
    status: int
    kind: str
    body: bytes

    def field(self, name: str) -> Any:
        """A member of the JSON document. Raises ``CheckFailed``."""
        try:
            return json.loads(self.body)[name]
        except (ValueError, KeyError, TypeError):
            raise CheckFailed(f"the answer has no {name}: {self.body[:200]!r}") from None


class System:
    """The gateway at ``url``."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")

    def ask(
        self, method: str, path: str, body: Any = None, *, token: str | None = None, wanted: Sequence[int] = (200,)
    ) -> Answer:
        """Return the answer, which has one of the ``wanted`` statuses. Raises ``CheckFailed``."""
        data = None if body is None else json.dumps(body).encode()
        headers = {} if data is None else {"Content-Type": "application/json"}
        headers |= {} if token is None else {"Authorization": f"Bearer {token}"}
        url = path if "://" in path else self._url + path
        begun = time.monotonic()
        answer = _fetch(urllib.request.Request(url, data, headers, method=method))  # noqa: S310 (the user's own)
        shown = path.partition("?")[0]
        print(f"{method:6} {shown:58} {answer.status}  {(time.monotonic() - begun) * 1000:7.0f} ms")
        if answer.status not in wanted:
            raise CheckFailed(f"{method} {shown} was answered {answer.status}, not {wanted[0]}: {answer.body[:400]!r}")
        return answer


def _fetch(request: urllib.request.Request) -> Answer:
    try:
        with urllib.request.urlopen(request, timeout=_PATIENCE) as answer:  # noqa: S310
            return Answer(answer.status, answer.headers.get_content_type(), answer.read())
    except urllib.error.HTTPError as error:
        return Answer(error.code, error.headers.get_content_type(), error.read())
    except OSError as error:
        why = getattr(error, "reason", error)
        raise CheckFailed(f"nothing answers at {request.full_url} ({why}). Start it: make up-build") from None


def check_health(system: System) -> None:
    """The gateway and each service behind it are well, or soon are."""
    ends = time.monotonic() + _SETTLING
    while True:
        services = system.ask("GET", "/healthz").field("services")
        for name, state in services.items():
            print(f"       {name:20} {state}")
        ill = [name for name, state in services.items() if state not in ("healthy", "not_configured")]
        if not ill or time.monotonic() > ends:
            break
        time.sleep(1.0)
    if ill:
        raise CheckFailed(f"not healthy: {', '.join(ill)}. Look at: make logs")


def check_auth(system: System) -> None:
    """An account is made, signs in, renews its tokens, and signs out."""
    account = {"email": f"test-{secrets.token_hex(4)}@example.com", "password": "password123"}
    system.ask("POST", "/auth/register", account, wanted=(201,))
    system.ask("POST", "/auth/login", {**account, "password": "password124"}, wanted=(401,))
    signed_in = system.ask("POST", "/auth/login", account, wanted=(200, 201))
    me = system.ask("GET", "/users/me", token=signed_in.field("accessToken"))
    if me.field("email") != account["email"]:
        raise CheckFailed("the profile is another user's")
    asked = {"refreshToken": signed_in.field("refreshToken")}
    renewed = system.ask("POST", "/auth/refresh", asked, wanted=(200, 201))
    system.ask("POST", "/auth/logout", {"refreshToken": renewed.field("refreshToken")}, wanted=(200, 201, 204))
    system.ask("POST", "/auth/refresh", {"refreshToken": renewed.field("refreshToken")}, wanted=(401,))


def check_image(system: System) -> None:
    """An anonymous caller has a picture made, and loads it."""
    asked = {"prompt": "cyberpunk cat with neon lights", "size": "512x512"}
    made = system.ask("POST", "/image/generate", asked, wanted=(200, 201))
    _load(system, f"/image/{made.field('id')}", "image/png")


def check_speech(system: System) -> None:
    """An anonymous caller has a text spoken, in two languages, and loads it."""
    for words, voice in (("Hello, this is a test of text to speech", "en"), ("Hola, esto es una prueba", "es")):
        asked = {"prompt": words, "voice": voice, "model": "gtts"}
        made = system.ask("POST", "/tts/generate", asked, wanted=(200, 201))
        _load(system, f"/tts/{made.field('id')}", "audio/mpeg")


def _load(system: System, path: str, kind: str) -> None:
    system.ask("GET", path)
    link = system.ask("GET", path + "/download").field("url")
    file = system.ask("GET", link)
    if file.kind != kind or not file.body:
        raise CheckFailed(f"{link} is {file.kind}, not {kind}")
    print(f"       {len(file.body)} bytes of {file.kind}")


def check_protected(system: System) -> None:
    """What wants a token is refused without one, and with one that is none."""
    for path in ("/users/me", "/admin/images", "/admin/audios"):
        system.ask("GET", path, wanted=(401,))
        system.ask("GET", path, token="no.to.ken", wanted=(401,))  # noqa: S106
    account = {"email": f"test-{secrets.token_hex(4)}@example.com", "password": "password123"}
    token = system.ask("POST", "/auth/register", account, wanted=(201,)).field("accessToken")
    system.ask("GET", "/users/me", token=token)
    # Signed in is not enough to see what all users made, unless the system says so.
    system.ask("GET", "/admin/images", token=token, wanted=(403, 200))


_CHECKS: dict[str, Callable[[System], None]] = {
    "health": check_health,
    "auth": check_auth,
    "image": check_image,
    "speech": check_speech,
    "protected": check_protected,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one check, or all, and return the exit status."""
    told = "\n".join(f"  {name:10} {check.__doc__}" for name, check in _CHECKS.items())
    parser = argparse.ArgumentParser(
        prog="python deploy/checks.py",
        description="Tries a running llm-microservices system as its users would.",
        epilog=f"checks:\n{told}\n\nexample: python deploy/checks.py auth --url http://127.0.0.1:8080",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("check", choices=[*_CHECKS, "all"])
    parser.add_argument("--url", default="http://127.0.0.1:8080", help="the gateway (default: %(default)s)")
    options = parser.parse_args(arguments)
    system = System(options.url)
    for name in _CHECKS if options.check == "all" else (options.check,):
        try:
            _CHECKS[name](system)
        except CheckFailed as failed:
            print(f"{name}: {failed}", file=sys.stderr)
            return 1
        print(f"{name}: well")
    return 0


if __name__ == "__main__":
    sys.exit(main())
