"""``/generate-code`` as screenshot-to-code's front end speaks it: written from its protocol, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from app.config import Config
from app.generations.formats import FRAME_DECODERS
from tests.support.front_end import FrontEnd
from tests.support.gateway import Gateway, bearer, running, settings, token
from tests.support.recordings import line
from tests.support.upstream import DONE, Call, chunk, scripted
from tests.support.valkey import ValkeyServer

PIXEL = "data:image/png;base64,aGk="
PARAMS = {
    "generationType": "create",
    "inputMode": "image",
    "prompt": {"text": "Make it blue", "images": [PIXEL]},
    "history": [],
    "generatedCodeConfig": "html_tailwind",
    "isImageGenerationEnabled": True,
    "openAiApiKey": "sk-secret-of-the-client",
}
PAGE = "<html>\n" + "".join(f"<p>line {number} ü😀</p>\n" for number in range(50)) + "</html>\n"


def configured(url: str, *, kind: Any = None, **code: Any) -> Config:
    kinds = {"code": {"upstream": "chat", **(kind or {})}}
    served = {"code": {"enabled": True, **code}}
    return settings(url, served=served, generations={"kinds": kinds})


@contextlib.asynccontextmanager
async def opened(gateway: Gateway, headers: dict[str, str] | None = None) -> AsyncIterator[ClientConnection]:
    headers = bearer() if headers is None else headers
    url = f"ws://127.0.0.1:{gateway.port}/generate-code"
    async with connect(url, additional_headers=headers, compression=None) as socket:
        yield socket


async def generate(gateway: Gateway, params: Any = PARAMS) -> FrontEnd:
    async with opened(gateway) as socket:
        await socket.send(json.dumps(params))
        return await FrontEnd().read(socket)


async def page(call: Call) -> None:
    await call.head()
    for text in ("`", "``html", "\n", *PAGE.splitlines(keepends=True), "```"):
        await call.send(chunk(text))
    await call.send(chunk(finish="stop") + DONE)
    await call.end()


async def test_two_variants_are_written_at_once_without_the_fences_of_markdown() -> None:
    both = asyncio.Event()
    calls: list[Call] = []

    async def script(call: Call) -> None:
        calls.append(call)
        if len(calls) == 2:
            both.set()
        await both.wait()
        await page(call)

    async with scripted(script) as upstream, running(configured(upstream.url)) as gateway:
        seen = await generate(gateway)
    assert seen.kinds[:3] == ["variantCount", "status", "status"]
    assert seen.variants == 2
    assert seen.code == {0: PAGE, 1: PAGE}
    assert (seen.complete, seen.errors, seen.error) == ({0, 1}, {}, None)
    assert seen.close[0] == 1000
    assert "sk-secret" not in repr(calls[0].body) + repr(calls[0].headers)
    content = calls[0].body["messages"][1]["content"]
    assert content == [{"type": "image_url", "image_url": {"url": PIXEL}}, {"type": "text", "text": "Make it blue"}]
    assert "html_tailwind" in calls[0].body["messages"][0]["content"]


async def test_what_is_sent_grows_with_the_page_and_not_with_its_square() -> None:
    long = "".join(f"<p>{number}</p>\n" for number in range(2000))

    async def script(call: Call) -> None:
        await call.answer([long[at : at + 12] for at in range(0, len(long), 12)])

    async with scripted(script) as upstream, running(configured(upstream.url, kinds=["code"])) as gateway:
        seen = await generate(gateway)
    assert seen.code == {0: long}
    assert seen.bytes < 10 * len(long)


async def test_files_of_a_service_of_ones_own_arrive_as_the_code_of_their_variant() -> None:
    async def script(call: Call) -> None:
        await call.head(b"application/x-ndjson")
        for size in (10, 100, len(PAGE)):
            await call.send(line({"file": {"path": "index.html", "text": PAGE[:size] + "</end>"}}))
        await call.send(line({"file": {"path": "index.html", "text": PAGE}}))
        await call.send(line({"file": {"path": "style.css", "text": "p {}"}}) + line({"done": True}))
        await call.end()

    async with scripted(script) as upstream:
        config = configured(upstream.url, kind={"format": "json-lines"}, kinds=["code"])
        async with running(config) as gateway:
            seen = await generate(gateway)
        body = upstream.calls[0].body
    assert seen.code == {0: PAGE}
    assert (body["code_stack"], body["image"], body["variant"]) == ("html_tailwind", PIXEL, 0)


async def test_one_variant_may_fail_and_if_all_do_it_is_an_error() -> None:
    fails = 1

    async def script(call: Call) -> None:
        nonlocal fails
        fails -= 1
        if fails >= 0:
            await call.head()
            await call.send(chunk("so far"))
            return
        await page(call)

    async with scripted(script) as upstream, running(configured(upstream.url)) as gateway:
        seen = await generate(gateway)
        assert len(seen.complete) == len(seen.errors) == 1
        assert seen.close[0] == 1000
        fails = 2
        seen = await generate(gateway)
        assert len(seen.errors) == 2
        assert seen.error is not None
        assert "stopped before" in seen.error
        assert seen.close[0] == 4332
        assert seen.close[1], "users of that project saw nothing but the number"


async def test_a_client_that_leaves_cancels_all_variants() -> None:
    async def script(call: Call) -> None:
        await call.head()
        await call.send(chunk("first"))
        await call.closed.wait()

    async with scripted(script) as upstream, running(configured(upstream.url)) as gateway:
        async with opened(gateway) as socket:
            await socket.send(json.dumps(PARAMS))
            calls = [await upstream.call(number) for number in (1, 2)]
            while "chunk" not in str(await socket.recv()):
                pass
            await socket.close(4333)
        for call in calls:
            await asyncio.wait_for(call.closed.wait(), 5)


@pytest.mark.parametrize(
    ("message", "says"),
    [
        ("{", "JSON"),
        ("[]", "JSON object"),
        ("{}", "prompt"),
        (json.dumps({"prompt": {"text": 5}}), "prompt"),
        (json.dumps({"prompt": {"images": ["file:///etc/passwd"]}}), "prompt.images"),
        (json.dumps({"prompt": {"text": "x"}, "generatedCodeConfig": "{evil}"}), "generatedCodeConfig"),
        (json.dumps({"prompt": {"text": "x"}, "generationType": "destroy"}), "generationType"),
        (json.dumps({"prompt": {"text": "x"}, "history": 5}), "history"),
    ],
)
async def test_wrong_parameters_are_an_error_with_its_reason(message: str, says: str) -> None:
    async with running(configured("http://127.0.0.1:1")) as gateway, opened(gateway) as socket:
        await socket.send(message)
        seen = await FrontEnd().read(socket)
    assert seen.error is not None
    assert says in seen.error
    assert seen.close[0] == 4332


async def test_who_has_no_token_is_let_in_only_where_that_is_allowed() -> None:
    async with scripted(page) as upstream:
        async with running(configured(upstream.url)) as gateway:
            foreign = {**bearer(), "Origin": "https://evil.example"}
            for headers, status in (({}, 401), ({"authorization": "Bearer nonsense"}, 401), (foreign, 403)):
                with pytest.raises(InvalidStatus) as refused:
                    await opened(gateway, headers).__aenter__()
                assert refused.value.response.status_code == status
            url = f"ws://127.0.0.1:{gateway.port}/generate-code"
            async with connect(url, subprotocols=["tidegate.v1", f"bearer.{token()}"]) as socket:  # type: ignore[list-item]
                await socket.send(json.dumps(PARAMS))
                assert (await FrontEnd().read(socket)).complete == {0, 1}
        async with running(configured(upstream.url, anonymous=True)) as gateway, opened(gateway, {}) as socket:
            await socket.send(json.dumps(PARAMS))
            assert (await FrontEnd().read(socket)).complete == {0, 1}


async def test_a_screenshot_of_megabytes_is_taken_and_more_than_the_limit_is_not() -> None:
    async with scripted(page) as upstream, running(configured(upstream.url, body_limit=3_000_000)) as gateway:
        large = {**PARAMS, "prompt": {"images": ["data:image/png;base64," + "a" * 2_000_000]}}
        assert (await generate(gateway, large)).complete == {0, 1}
        async with opened(gateway) as socket:
            larger = {**PARAMS, "prompt": {"images": ["data:image/png;base64," + "a" * 3_000_000]}}
            with contextlib.suppress(ConnectionClosed):
                await socket.send(json.dumps(larger))
            assert (await FrontEnd().read(socket)).close[0] == 1009


async def test_our_own_decoder_reads_what_is_served() -> None:
    decoder, events = FRAME_DECODERS["screenshot-to-code"](), []
    async with scripted(page) as upstream, running(configured(upstream.url)) as gateway, opened(gateway) as socket:
        await socket.send(json.dumps(PARAMS))
        with contextlib.suppress(ConnectionClosed):
            while True:
                events += decoder.text(str(await asyncio.wait_for(socket.recv(), 15)))
    assert type(events[-1]).__name__ == "Completed"


async def test_a_variant_that_is_refused_is_told_and_the_others_go_on() -> None:
    limits = {"few": {"requests": 2, "window": 600, "by": "user"}}
    async with scripted(page) as upstream:
        config = settings(
            upstream.url,
            limits=limits,
            served={"code": {"enabled": True, "kinds": ["code", "code", "code"]}},
            generations={"kinds": {"code": {"upstream": "chat", "limits": ["few"]}}},
        )
        async with running(config) as gateway:
            seen = await generate(gateway)
            assert (seen.variants, seen.complete, list(seen.errors)) == (3, {0, 1}, [2])
            assert seen.code == {0: PAGE, 1: PAGE}
            assert "one request too many" in seen.errors[2]
            assert seen.close[0] == 1000
            none = await generate(gateway)
            assert (none.kinds, none.close[0]) == (["error"], 4332)
            assert len(upstream.calls) == 2


async def test_a_client_that_leaves_while_variants_are_started_leaves_none_running(
    valkey: ValkeyServer, prefix: str
) -> None:
    async def script(call: Call) -> None:
        await call.closed.wait()

    async with scripted(script) as upstream:
        config = settings(
            upstream.url,
            served={"code": {"enabled": True, "kinds": ["code"] * 8}},
            generations={"kinds": {"code": {"upstream": "chat"}}},
            broker={"redis_url": valkey.url, "key_prefix": prefix},
        )
        async with running(config) as gateway:
            for _ in range(4):
                begun = len(upstream.calls)
                async with opened(gateway) as socket:
                    await socket.send(json.dumps(PARAMS))
                    while len(upstream.calls) == begun:  # One runs, and the others are about to.
                        await asyncio.sleep(0)
                    socket.transport.abort()
            async with asyncio.timeout(10):
                for call in upstream.calls:
                    await call.closed.wait()
