"""A vision model behind an OpenAI-compatible server: a screenshot and words in, code out as it is written."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from typing import Any

import httpx
import orjson

from services.code.settings import CodeSettings
from services.web.errors import BadUpstream

__all__ = ["VisionModel"]

_FENCE = re.compile(r"\A\s*```[\w+-]*\n")
_MOST_LINE = 1024 * 1024


class VisionModel:
    """Asks ``settings.base_url``. A cancelled generation closes its connection, which ends the work there."""

    def __init__(self, settings: CodeSettings) -> None:
        assert settings.api_key is not None, "the settings pair it with the address"
        self._settings = settings
        self._client = httpx.AsyncClient(
            headers={
                "authorization": f"Bearer {settings.api_key.get_secret_value()}",
                "accept-encoding": "identity",
            },
            timeout=httpx.Timeout(settings.read_timeout, connect=5.0),
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def write(self, words: str, image: str | None) -> AsyncGenerator[str]:
        """The code in pieces, without a fence around it. Raises ``BadUpstream``."""
        content: list[dict[str, Any]] = [{"type": "text", "text": words}]
        if image is not None:
            content.append({"type": "image_url", "image_url": {"url": image}})
        body = {"model": self._settings.model, "stream": True, "messages": [{"role": "user", "content": content}]}
        head, begun, held, size = "", False, "", 0
        async for delta in self._deltas(body):
            size += len(delta)
            if size > self._settings.max_output:
                raise BadUpstream("The model wrote more than is allowed.")
            if not begun:
                head += delta
                if "\n" not in head and len(head) < 64:
                    continue
                text, begun = _FENCE.sub("", head), True
            else:
                text = held + delta
            # A fence at the end is only known to be one when nothing follows it.
            cut = len(text.rstrip("`\n "))
            held = text[cut:]
            if text[:cut]:
                yield text[:cut]
        rest = (held if begun else _FENCE.sub("", head)).rstrip("`\n ")
        if rest:
            yield rest
        yield "\n"

    async def _deltas(self, body: dict[str, Any]) -> AsyncGenerator[str]:
        url = f"{self._settings.base_url}/chat/completions"
        ended = False
        try:
            async with self._client.stream("POST", url, json=body) as response:
                if not response.is_success:
                    raise BadUpstream(f"The model's server answered {response.status_code}.")
                async for line in response.aiter_lines():
                    data = line.removeprefix("data:").strip()
                    if not line.startswith("data:") or len(line) > _MOST_LINE:
                        continue
                    if data == "[DONE]":
                        ended = True
                        break
                    yield _text_of(data)
        except httpx.HTTPError as error:
            raise BadUpstream(f"The model's server failed: {type(error).__name__}.") from None
        if not ended:
            raise BadUpstream("The model's answer broke off.")


def _text_of(data: str) -> str:
    try:
        value = orjson.loads(data)
        text = value["choices"][0]["delta"].get("content") if value["choices"] else ""
    except (orjson.JSONDecodeError, KeyError, IndexError, TypeError, AttributeError):
        raise BadUpstream("The model's server sent what cannot be read.") from None
    return text if isinstance(text, str) else ""
