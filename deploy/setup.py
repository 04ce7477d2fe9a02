"""Writes ``.env``, from which compose.yaml takes variables: secrets of this machine's own, made at random."""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path

__all__ = ["main"]

_SECRETS = (
    ("JWT_SECRET_KEY", "signs users' tokens: of the users service and of the gateway"),
    ("USERS_GATEWAY_KEY", "lets the users service close the sockets of who signed out"),
    ("GATEWAY_AUTH__SECRET", "the same for the demo"),
    ("JWT_SECRET", "the same for screenshot-to-code and chat-kafka"),
    ("INTERNAL_SERVICE_KEY", "lets services of chat-kafka ask each other"),
    ("GATEWAY_JWT_SECRET", "the same for nyro"),
    ("IMAGE_SIGNING_KEY", "signs links to pictures"),
    ("SPEECH_SIGNING_KEY", "signs links to recordings"),
    ("SUMMARIZER_SIGNING_KEY", "signs links to summaries"),
    ("POSTGRES_PASSWORD", "of the database's only user"),
    ("MINIO_ROOT_PASSWORD", "of the object store; its user is minio"),
)


def main(folder: Path) -> int:
    """Write the file, unless there is one, which stays as it is; return the exit status."""
    path = folder / ".env"
    lines = ["# Variables of compose.yaml, written by `make setup-dev`. Keep this file to yourself.\n"]
    lines += [f"# {what}\n{name}={secrets.token_urlsafe(32)}\n" for name, what in _SECRETS]
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        print(f"{path} is there already, and stays as it is.")
        return 0
    with os.fdopen(file, "w") as out:
        out.writelines(lines)
    print(f"{path} is written, with secrets of its own.")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(__file__).parents[1]))
