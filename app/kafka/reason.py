"""Why a broker cannot be reached, in words for an operator: of a failure aiokafka tells only that there was one."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from typing import Any

__all__ = ["reason_of"]

_MOST_ASKED = 3
_LONGEST = 200


async def reason_of(
    kafka: Any,
    error: BaseException,
    options: Mapping[str, Any],
    timeout: float,  # noqa: ASYNC109
) -> str:
    """Return why the first of the brokers that ``options`` name takes no connection, or else what ``error`` is.

    ``kafka`` is the package. Tries one connection to each of a few, ``timeout`` (seconds) for all. The answer holds no
    password.
    """
    common = {name: value for name, value in options.items() if name != "bootstrap_servers"}
    said = repr(error)
    try:
        async with asyncio.timeout(timeout):
            for server in options["bootstrap_servers"][:_MOST_ASKED]:
                host, _, port = server.rpartition(":")
                try:
                    (await kafka.conn.create_conn(host.strip("[]"), int(port), **common)).close()
                except (OSError, kafka.errors.KafkaError) as refusal:
                    said = f"{server}: {_told(kafka.errors, refusal)}"
                    break
    except TimeoutError:
        said = f"{server}: does not answer"
    # What a broker says is passed on, and a hostile one has heard the password.
    password = options.get("sasl_plain_password") or ""
    return (said.replace(password, "…") if password else said)[:_LONGEST]


def _told(errors: Any, error: Exception) -> str:
    match error:
        case ssl.SSLCertVerificationError():
            return f"its certificate cannot be verified by tls_ca: {error.verify_message}"
        case ssl.SSLError():
            return f"no TLS with it: {error.reason or error}"
        case errors.SaslAuthenticationFailed():
            return f"it refuses username and password: {error}"
        case errors.UnsupportedSaslMechanismError():
            return f"it does not know this sasl_mechanism: {error}"
        case errors.IllegalSaslStateError():
            return "nobody signs in there; see security_protocol"
        case TimeoutError():
            return "does not answer"
        case ConnectionResetError() | errors.KafkaError():
            return f"it ends the connection; see security_protocol ({error!r})"
        case _:
            return str(error) or repr(error)
