from __future__ import annotations

import asyncio
import base64
import io
import wave
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import orjson
import pytest

from services.speech.app import create_app
from services.speech.espeak import load_espeak
from services.speech.settings import SpeechSettings
from services.speech.speaking import _SENTENCE
from services.speech.voices import FEATURED, speaker_of

ASK = {"prompt": "Hello, this is a test of text to speech.", "voice": "en"}
LONG = {"prompt": "This goes on for a while. " * 180, "speed": 0.25}


@pytest.fixture
def serve_speech(serve_app: Any, tmp_path: Path) -> Callable[..., Any]:
    def start(**settings: Any) -> Any:
        return serve_app(create_app(SpeechSettings(**{"storage": str(tmp_path / "kept"), **settings})))

    return start


@pytest.fixture
async def client(serve_speech: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with serve_speech() as url, httpx.AsyncClient(base_url=url, timeout=60) as client:
        yield client


def samples_of(data: bytes) -> np.ndarray[Any, Any]:
    with wave.open(io.BytesIO(data)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 22050)
        return np.frombuffer(file.readframes(file.getnframes()), np.int16)


async def spoken(client: httpx.AsyncClient, **more: Any) -> np.ndarray[Any, Any]:
    answer = await client.post("/tts/generate", json=ASK | {"format": "wav"} | more)
    assert answer.status_code == 200, answer.text
    return samples_of((await client.get(answer.json()["url"])).content)


async def test_a_text_is_spoken_kept_and_downloaded(client: httpx.AsyncClient, tmp_path: Path) -> None:
    made = (await client.post("/tts/generate", json=ASK)).json()
    assert (made["status"], made["format"], made["language"]) == ("completed", "mp3", "en-us")
    sound = await client.get(made["url"])
    assert sound.headers["content-type"] == "audio/mpeg"
    assert sound.content[0] == 0xFF
    day = made["id"].split("_")[1]
    folder = tmp_path / "kept" / "requests" / day[:4] / day[4:6] / day[6:] / made["id"]
    assert (folder / "audio" / "output.mp3").read_bytes() == sound.content
    assert orjson.loads((folder / "input.json").read_bytes())["prompt"] == ASK["prompt"]
    link = (await client.get(f"/tts/{made['id']}/download")).json()
    assert (await client.get(link["url"])).content == sound.content
    assert (await client.get(f"/tts/{made['id']}")).json()["seconds"] > 1


async def test_it_is_sound_and_another_text_voice_speed_or_pitch_is_another_sound(client: httpx.AsyncClient) -> None:
    plain = await spoken(client)
    assert 1.5 < len(plain) / 22050 < 8
    assert np.abs(plain).max() > 5000
    assert abs(len(await spoken(client)) - len(plain)) < 0.05 * len(plain)
    others = [
        await spoken(client, prompt="Hello, this is another test of speech."),
        await spoken(client, voice="es"),
        await spoken(client, pitch=90),
        await spoken(client, voice="nova"),
    ]
    assert len({sound.tobytes() for sound in [plain, *others]}) == 5
    assert len(await spoken(client, model="gtts-slow")) > 1.2 * len(plain)
    assert len(await spoken(client, speed=2.0)) < 0.8 * len(plain)


@pytest.mark.parametrize(
    ("voice", "text"),
    [("en", "Good morning"), ("es", "Hola, ¿qué tal?"), ("fr", "Bonjour à tous"), ("de", "Schöne Grüße"),
     ("it", "Buongiorno"), ("pt", "Bom dia"), ("ja", "こんにちは"), ("zh-CN", "你好。今天天气很好"), ("ru", "Добрый")],
)  # fmt: skip
async def test_every_language_speaks(client: httpx.AsyncClient, voice: str, text: str) -> None:
    sound = await spoken(client, voice=voice, prompt=text)
    assert len(sound) > 22050 * 0.3
    assert np.abs(sound).max() > 3000


async def test_voices_are_listed_and_each_can_be_used(client: httpx.AsyncClient) -> None:
    featured = (await client.get("/tts/voices")).json()
    assert [voice["id"] for voice in featured["voices"]] == list(FEATURED)
    everything = (await client.get("/tts/voices?all=true")).json()
    assert len(everything["voices"]) == everything["total"] > 100
    files = {voice.language: voice.file for voice in load_espeak().voices}
    assert speaker_of("../../etc", files) is None
    assert speaker_of("EN_gb", files) is not None


async def test_sound_is_streamed_while_it_is_spoken(client: httpx.AsyncClient) -> None:
    whole = await spoken(client)
    body = ASK | {"stream": True, "format": "wav"}
    pieces = []
    async with client.stream("POST", "/tts/generate", json=body) as response:
        assert response.headers["content-type"] == "audio/wav"
        assert "content-length" not in response.headers
        async for piece in response.aiter_raw():
            pieces.append(piece)
    data = b"".join(pieces)
    assert data[:4] == b"RIFF"
    assert abs(len(data) - 44 - whole.nbytes) < 0.05 * whole.nbytes
    pcm = (await client.post("/tts/generate", json=ASK | {"stream": "audio", "format": "pcm"})).content
    assert abs(len(pcm) - whole.nbytes) < 0.05 * whole.nbytes
    assert len(pieces) > 1


@pytest.mark.parametrize("form", ["sse", "jsonl"])
async def test_events_hold_the_sound_in_order_and_end_once(client: httpx.AsyncClient, form: str) -> None:
    answer = await client.post("/tts/generate", json=ASK | {"stream": form, "format": "pcm"})
    lines = answer.text.splitlines()
    events = [orjson.loads(line.removeprefix("data: ")) for line in lines if "{" in line]
    audio = [event for event in events if event["type"] == "audio"]
    assert [event["index"] for event in audio] == list(range(len(audio)))
    sound = b"".join(base64.b64decode(event["data"]) for event in audio)
    kept = await client.get(events[-1]["artifacts"][0]["url"])
    assert sound == kept.content
    assert len(audio) > 3
    assert [event["type"] for event in events if event["type"] in ("completed", "failed")] == ["completed"]
    assert events[-1]["artifacts"][0]["name"] == "audio/output.pcm"


async def test_the_pieces_among_a_jobs_events_are_the_recording(client: httpx.AsyncClient) -> None:
    for form in ("mp3", "pcm"):
        asked = ASK | {"prompt": "One sentence. And another one. " * 8, "format": form, "sync": False, "pieces": True}
        job = (await client.post("/tts/generate", json=asked)).json()
        lines = (await client.get(f"/tts/{job['id']}/events")).text.splitlines()
        events = [orjson.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
        pieces = [event for event in events if event["type"] == "audio"]
        assert [piece["index"] for piece in pieces] == list(range(len(pieces)))
        assert len(pieces) > 2
        (artifact,) = [event for event in events if event["type"] == "artifact"]
        recording = (await client.get(artifact["url"])).content
        assert b"".join(base64.b64decode(piece["data"]) for piece in pieces) == recording
        again = (await client.get(f"/tts/{job['id']}/events")).text
        assert again.count('"type":"audio"') == len(pieces)


async def test_openais_client_reads_it(client: httpx.AsyncClient) -> None:
    async with openai.AsyncOpenAI(base_url=f"{client.base_url}/v1", api_key="any", max_retries=0) as official:
        ask: Any = {"model": "tts-1", "voice": "nova", "input": "Hello there."}
        mp3 = await official.audio.speech.create(**ask)
        assert mp3.content[0] == 0xFF
        pieces = []
        streaming = official.audio.speech.with_streaming_response
        async with streaming.create(**ask, response_format="pcm") as response:
            pieces = [piece async for piece in response.iter_bytes()]
        sound = b"".join(pieces)
        answer = await client.post("/v1/audio/speech", json=ask | {"response_format": "pcm", "stream_format": "sse"})
        events = [orjson.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]
        assert events[-1]["type"] == "speech.audio.done"
        told = b"".join(base64.b64decode(event["audio"]) for event in events[:-1])
        assert abs(len(told) - len(sound)) < 0.05 * len(sound)
        with pytest.raises(openai.UnprocessableEntityError):
            await official.audio.speech.create(**ask | {"voice": "nobody"})


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": " ?! "}, "prompt"),
        ({"prompt": "x" * 5001}, "prompt"),
        ({"voice": "klingon"}, "voice"),
        ({"voice": "en-us+f1\0"}, "voice"),
        ({"model": "gpt"}, "model"),
        ({"format": "ogg"}, "format"),
        ({"speed": 9}, "speed"),
        ({"pitch": 101}, "pitch"),
        ({"callback_url": "ftp://x"}, "callback_url"),
    ],
)
async def test_a_wrong_field_is_named(client: httpx.AsyncClient, change: dict[str, Any], field: str) -> None:
    answer = await client.post("/tts/generate", json=ASK | change)
    assert (answer.status_code, answer.json()["error"]["param"]) == (422, field)


async def test_leaving_and_deleting_cancel(serve_speech: Any) -> None:
    async with serve_speech(max_text=100_000) as url, httpx.AsyncClient(base_url=url, timeout=60) as client:
        long = {"prompt": str(LONG["prompt"]) * 20, "speed": 0.25}

        async def running(count: int) -> None:
            async with asyncio.timeout(20):
                while (await client.get("/health")).json()["running"] != count:
                    await asyncio.sleep(0.01)

        async with client.stream("POST", "/tts/generate", json=long | {"stream": True}) as response:
            async for _ in response.aiter_raw():
                break
        await running(0)
        item = (await client.post("/tts/generate", json=long | {"sync": False})).json()["id"]
        await running(1)
        assert (await client.delete(f"/tts/{item}")).json()["status"] == "cancelled"
        await running(0)


async def test_a_speech_in_progress_shows_its_way_and_its_owner_alone_sees_it(serve_speech: Any) -> None:
    ann = {"x-user-id": "ann"}
    async with (
        serve_speech(internal_key="secret") as url,
        httpx.AsyncClient(base_url=url, timeout=60) as client,
    ):
        item = (await client.post("/tts/generate", json=ASK | {"sync": False}, headers=ann)).json()["id"]
        events = (await client.get(f"/tts/{item}/events", headers=ann)).text
        assert events.rstrip().splitlines()[-2] == "event: completed"
        assert (await client.get(f"/tts/{item}", headers=ann)).json()["percent"] == 100
        assert (await client.get(f"/tts/{item}")).status_code == 404
        assert (await client.get("/admin/audios")).status_code == 403
        listed = (await client.get("/admin/audios", headers={"x-internal-key": "secret"})).json()["data"]
        assert [record["id"] for record in listed] == [item]


async def test_many_at_once_do_not_mix(client: httpx.AsyncClient) -> None:
    """The library has one state for all: each must still get what it asked for, at its own length."""
    asks = [{"voice": voice, "prompt": "Number 7 " * times} for times, voice in enumerate(["en", "es", "de"] * 3, 1)]
    alone = [len(await spoken(client, **ask)) for ask in asks]
    together = await asyncio.gather(*(spoken(client, **ask) for ask in asks))
    for one, other in zip(alone, together, strict=True):
        assert abs(one - len(other)) < 0.05 * one


@pytest.mark.parametrize("text", ["One. Two! Three?\nFour", "你好。再见！", "a" * 3000, "no end", "...", " \n\n x"])
def test_sentences_join_to_the_text(text: str) -> None:
    assert "".join(match[0] for match in _SENTENCE.finditer(text)) == text


async def test_the_service_describes_itself(client: httpx.AsyncClient) -> None:
    for path in ("/health", "/healthz", "/docs", "/tts/models", "/v1/models"):
        assert (await client.get(path)).status_code == 200
    assert "/tts/{item_id}/download" in (await client.get("/openapi.json")).json()["paths"]
