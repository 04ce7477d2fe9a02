"""``python -m services.speech``: the service on a port."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from services.speech.app import create_app
from services.speech.settings import SpeechSettings
from services.web.command import argument_parser, serve

__all__ = ["main"]

_EPILOG = """\
example:
  python -m services.speech --port 8001 &
  curl http://127.0.0.1:8001/tts/generate --json '{"prompt": "Hola, esto es una prueba", "voice": "es"}'
  curl http://127.0.0.1:8001/v1/audio/speech --json '{"input": "Hello there.", "voice": "nova"}' -o hello.mp3

environment:
  SPEECH_STORAGE         a folder (default out/speech), or s3://bucket/prefix
  SPEECH_PUBLIC_URL      where clients reach the service: the beginning of its links
  SPEECH_SIGNING_KEY     signs links; without it they end with the process
  SPEECH_INTERNAL_KEY    opens /admin/audios, as a bearer token
  SPEECH_WEBHOOK_HOSTS   hosts that callback_url may name, with SPEECH_WEBHOOK_SECRET
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run until interrupted. Exits with status 2 and a sentence when a setting is wrong."""
    description = "A speech service that speaks with eSpeak NG; it needs no network."
    parser = argument_parser("speech", description, _EPILOG, 8001)
    parser.add_argument("--storage", metavar="FOLDER|URL", help="overrides SPEECH_STORAGE")
    serve(parser, arguments, SpeechSettings, create_app)


if __name__ == "__main__":
    main(sys.argv[1:])
