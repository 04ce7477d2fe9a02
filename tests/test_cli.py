"""The commands: what they print, where, and how they exit; and a chat through dropped connections."""

import asyncio
import contextlib
import hashlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading

import pytest
from websockets.asyncio.server import serve
from websockets.sync.server import serve as serve_in_thread

from app.auth.tokens import TokenVerifier
from app.cli import main
from app.cli.chat import ask, socket_url
from app.cli.conversation import Conversation, ConversationFailed
from app.config import AuthConfig, load_config

SECRET = "a-secret-of-this-test-that-is-long-enough"


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in list(os.environ):
        if name.startswith(("GATEWAY_", "TIDEGATE_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "120")


@pytest.fixture
def run(capsys):
    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        output = capsys.readouterr()
        return caught.value.code or 0, output.out, output.err

    return run


@pytest.mark.parametrize("command", ["migrate", "report"])
def test_help_of_the_commands_about_events_shows_an_example(run, command):
    status, out, _ = run("events", command, "--help")
    assert status == 0
    assert f"tidegate events {command}" in out.split("Example:")[1]


def test_help_about_events_shows_an_example(run):
    assert "tidegate events" in run("events", "--help")[1].split("Example:")[1]


@pytest.mark.parametrize("command", ["serve", "demo", "check", "routes", "presets", "token", "chat", "drain"])
def test_help_shows_an_example(run, command):
    status, out, _ = run(command, "--help")
    assert status == 0
    assert f"tidegate {command}" in out.split("Example:")[1]


def test_help_lists_the_commands(run):
    _, out, _ = run("--help")
    assert all(command in out for command in ("serve", "demo", "check", "token", "chat", "drain", "events"))


def test_the_version_is_told(run):
    status, out, _ = run("--version")
    assert status == 0
    assert re.match(r"tidegate (\d+\.\d+|\(not installed\))", out)


def test_drain_wants_to_know_which_gateway(run, tmp_path):
    assert run("drain")[0] == 2
    status, out, err = run("drain", "--pid-file", str(tmp_path / "none"))
    assert (status, out) == (1, "")
    assert "no gateway runs by" in err
    assert "there is no process" in run("drain", "--pid", "4194303")[2]


def test_an_unknown_command_is_an_error(run):
    assert run("sreve")[0] == 2


def test_token_prints_one_that_the_gateway_takes(run):
    status, out, err = run("token", "--sub", "42", "--company", "acme", "--ttl", "1h", "--role", "a", "--role", "b")
    identity = TokenVerifier(AuthConfig()).verify(out.strip())
    assert (status, err) == (0, "")
    assert (identity.user_id, identity.company_id, identity.roles) == ("42", "acme", ("a", "b"))


def test_token_is_signed_as_its_configuration_says(run, tmp_path):
    path = tmp_path / "gateway.toml"
    path.write_text(f"[auth]\nsecret = '{SECRET}'\ncompany_claim = 'app.company'\naudience = ['chat']\n")
    _, out, _ = run("token", "--sub", "42", "--company", "acme", "--config", str(path))
    auth = AuthConfig(secret=SECRET, company_claim="app.company", audience=["chat"])
    assert TokenVerifier(auth).verify(out.strip()).company_id == "acme"


@pytest.mark.parametrize("ttl", ["", "x", "1y", "-1h", "0", "1h30"])
def test_token_refuses_a_lifetime_that_is_none(run, ttl):
    status, out, err = run("token", "--sub", "42", "--ttl", ttl)
    assert (status, out) == (2, "")
    assert "15m" in err


@pytest.mark.parametrize("nobody", ["", "  "])
def test_token_is_for_somebody(run, nobody):
    status, out, err = run("token", "--sub", nobody)
    assert (status, out) == (2, "")
    assert "--sub 42" in err


def test_token_cannot_sign_for_an_identity_provider(run, monkeypatch):
    monkeypatch.setenv("GATEWAY_AUTH__ALGORITHMS", "RS256")
    monkeypatch.setenv("GATEWAY_AUTH__PUBLIC_KEY", "-----BEGIN PUBLIC KEY-----")
    status, out, err = run("token", "--sub", "42")
    assert (status, out) == (2, "")
    assert "identity provider" in err


def test_check_shows_where_requests_go(run, tmp_path):
    path = tmp_path / "gateway.toml"
    path.write_text(
        "[upstreams.a]\ntargets = ['http://a:1']\n[generations.kinds.talk]\nupstream = 'a'\n"
        "[[routes]]\npath = '/v1/*'\nupstream = 'a'\nmethods = ['GET']\nauth = 'none'\n"
    )
    status, out, err = run("check", "--config", str(path))
    assert (status, err) == (0, "")
    assert all(word in out for word in ("/v1/*", "GET", "none", "http://a:1", "talk", "is right"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[server]\nprot = 1", "Did you mean server.port?"),
        ("[auth]\nalgorithms = ['RS256']\npublic_key = '-----BEGIN x'", "auth.public_key is not a public key"),
        (
            "[upstreams.a]\ntargets = ['http://a:1']\n[[routes]]\npath = '/v1/*'\nupstream = 'a'\n"
            "[[routes]]\npath = '/v1/b'\nupstream = 'a'",
            "routes[1] (/v1/b) is never taken: /v1/*",
        ),
        ("[broker]\nredis_url = 'rediss://h'\ntls_ca = 'none.pem'", "broker.tls_ca: there is no file none.pem"),
    ],
)
def test_check_names_the_file_and_the_fault(run, tmp_path, text, says):
    path = tmp_path / "gateway.toml"
    path.write_text(text)
    status, out, err = run("check", "--config", str(path))
    assert (status, out) == (1, "")
    assert err.startswith(f"tidegate: {path}: ")
    assert says in err


@pytest.mark.parametrize("command", [["serve", "--port", "70000"], ["demo", "--port", "70000"]])
def test_a_wrong_configuration_ends_with_status_2_and_one_sentence(run, command):
    status, out, err = run(*command)
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    assert "the command line: server.port" in err


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_gateway_that_cannot_be_started_says_so_and_exits_with_1(tmp_path, workers):
    path = tmp_path / "gateway.toml"
    # Files of this kind are looked at by each process for itself.
    path.write_text("[upstreams.a.kafka]\nbootstrap_servers = ['127.0.0.1:1']\ntopic = 'a'\nreply_topic = 'b'\n"
                    "security_protocol = 'SSL'\ntls_ca = 'none.pem'\n")  # fmt: skip
    command = [sys.executable, "-m", "app.cli", "serve", "--config", str(path), "--port", "0", "--workers", workers]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1, ended.stderr
    assert "a TLS file cannot be used" in ended.stderr
    assert ended.stderr.splitlines()[-1] == "tidegate: the gateway could not be started. The log above says why."


def test_chat_says_when_nothing_listens(run):
    status, _, err = run("chat", "Hello", "--url", "ws://127.0.0.1:1")
    assert status == 1
    assert "Nothing answers at ws://127.0.0.1:1/api/v1/ws" in err


def test_chat_goes_where_its_configuration_listens_with_a_token_as_that_has_it(run, monkeypatch):
    shown = []

    def end(socket) -> None:
        shown.append(socket.request.headers["Authorization"])
        socket.close(4501, "enough")

    with serve_in_thread(end, "127.0.0.1", 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("PORT", str(server.socket.getsockname()[1]))
        status, _, err = run("chat", "Hello", "--preset", "nyro", "--company", "acme")
        server.shutdown()
    assert (status, "4501" in err) == (1, True)
    verified = TokenVerifier(load_config(None, {}, preset="nyro").auth).verify(shown[0].removeprefix("Bearer "))
    assert (verified.user_id, verified.company_id) == ("tidegate-chat", "acme")


def test_chat_that_is_refused_says_how_to_show_another_token(run):
    with serve_in_thread(lambda _: None, "127.0.0.1", 0, process_request=lambda it, _: it.respond(401, "")) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        status, _, err = run("chat", "Hello", "--url", f"ws://127.0.0.1:{server.socket.getsockname()[1]}")
        server.shutdown()
    assert status == 1
    assert all(option in err for option in ("--config", "--preset", "--token"))


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("ws://h:1", "ws://h:1/api/v1/ws"),
        ("http://h:1/", "ws://h:1/api/v1/ws"),
        ("https://h", "wss://h/api/v1/ws"),
        ("h:1", "ws://h:1/api/v1/ws"),
        ("wss://h/other", "wss://h/other"),
    ],
)
def test_an_address_is_completed(given, url):
    assert socket_url(given) == url


@pytest.mark.parametrize("given", ["ftp://h", "ws://", ""])
def test_an_address_that_is_none_is_refused(given):
    with pytest.raises(ConversationFailed, match="not the address"):
        socket_url(given)


class Gateway:
    """A gateway with one generation, of ``words``. Drops a connection after each number of events in ``drops``."""

    def __init__(self, words=("Light ", "is ", "fast."), drops=(), ends=True) -> None:
        self.words = list(words)
        self.drops = list(drops)
        self.ends = ends
        self.commands: list[dict] = []
        self.headers: list[str] = []
        self.cancelled = asyncio.Event()
        self.code = 1012

    def events(self) -> list[dict]:
        events = [{"type": "delta", "text": word} for word in self.words]
        return [*events, self.terminal("completed", reason="stop")] if self.ends else events

    def terminal(self, type_: str, **fields) -> dict:
        text = "".join(self.words)
        digest = hashlib.sha256(text.encode()).hexdigest()
        receipt = {"offset": len(self.words) + 1, "characters": len(text), "sha256": digest}
        return {"type": type_, **fields, "receipt": receipt}

    async def __call__(self, socket) -> None:
        self.headers.append(socket.request.headers["Authorization"])
        await self.say(socket, {"type": "connected", "connection_id": "c"})
        command = json.loads(await socket.recv())
        self.commands.append(command)
        since = 0
        if command["type"] == "generate":
            reply = {"generation_id": "g1", "epoch": "e1", "offset": 0}
        else:
            since = command["streams"]["g1"]["offset"]
            reply = {"streams": {"g1": {"status": "resumed", "epoch": "e1", "offset": since, "recovered": True}}}
        limit = self.drops.pop(0) if self.drops else None
        if limit != "before the reply":
            await self.say(socket, {"type": "reply", "id": command["id"], "ok": True, **reply})
            await self.stream(socket, since, limit)
        await socket.close(self.code, "service restart")

    async def stream(self, socket, since: int, limit: int | None) -> None:
        for offset, event in enumerate(self.events()[since:][:limit], since + 1):
            await self.event(socket, offset, event)
        if limit is None and not self.ends:
            self.commands.append(json.loads(await socket.recv()))
            await self.event(socket, len(self.words) + 1, self.terminal("cancelled", by="user"))

    async def event(self, socket, offset: int, event: dict) -> None:
        await self.say(
            socket, {"type": "event", "generation_id": "g1", "epoch": "e1", "offset": offset, "event": event}
        )

    async def say(self, socket, message: dict) -> None:
        await socket.send(json.dumps(message))

    @contextlib.asynccontextmanager
    async def running(self, **options):
        async with serve(self, "127.0.0.1", 0, **options) as server:
            yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def hold(gateway, conversation=None):
    output, notes = io.StringIO(), io.StringIO()
    async with gateway.running() as url:
        end = await ask(conversation or Conversation("Hello", "m"), url, "the-token", output, notes)
    return end, output.getvalue(), notes.getvalue()


async def test_chat_prints_the_answer_and_proves_it():
    gateway = Gateway()
    end, text, notes = await hold(gateway)
    assert (end.status, end.proven, end.characters) == ("completed", True, 14)
    assert (text, notes) == ("Light is fast.", "")
    assert gateway.headers == ["Bearer the-token"]
    assert gateway.commands[0]["input"] == {"message": "Hello", "model": "m"}


async def test_chat_resumes_where_the_connection_dropped():
    gateway = Gateway(drops=[1, 1])
    end, text, notes = await hold(gateway)
    assert (text, end.proven) == ("Light is fast.", True)
    assert [command["type"] for command in gateway.commands] == ["generate", "resume", "resume"]
    assert gateway.commands[2]["streams"] == {"g1": {"epoch": "e1", "offset": 2}}
    assert notes.count("connecting again") == 2


async def test_chat_asks_again_with_the_same_key_when_the_reply_was_lost():
    gateway = Gateway(drops=["before the reply"])
    end, text, _ = await hold(gateway)
    assert (text, end.proven) == ("Light is fast.", True)
    first, second = gateway.commands
    assert first["idempotency_key"] == second["idempotency_key"]


async def test_chat_cancels_on_interrupt():
    gateway = Gateway(ends=False)

    async def interrupt_soon() -> None:
        while not gateway.commands:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    (end, _, notes), _ = await asyncio.gather(hold(gateway), interrupt_soon())
    assert (end.status, end.why, end.proven) == ("cancelled", "by user", True)
    assert gateway.commands[-1] == {"type": "cancel", "id": 3, "generation_id": "g1"}
    assert "cancelling" in notes


async def test_chat_does_not_come_back_to_a_final_close():
    gateway = Gateway(drops=[1])
    gateway.code = 4501
    with pytest.raises(ConversationFailed, match="4501"):
        await hold(gateway)


@pytest.mark.parametrize(("status", "says"), [(401, "refused the token"), (403, "refused"), (404, "no socket")])
async def test_chat_says_why_the_handshake_was_refused(status, says):
    gateway = Gateway()
    async with gateway.running(process_request=lambda socket, _: socket.respond(status, "no\n")) as url:
        with pytest.raises(ConversationFailed, match=says):
            await ask(Conversation("Hello"), url, "t", io.StringIO(), io.StringIO())


def events(*pairs):
    for offset, merged, event in pairs:
        yield json.dumps(
            {"type": "event", "generation_id": "g1", "epoch": "e", "offset": offset, "merged": merged, "event": event}
        )


@pytest.fixture
def conversation():
    conversation = Conversation("Hello")
    conversation.receive('{"type":"reply","id":1,"ok":true,"generation_id":"g1","epoch":"e","offset":0}')
    return conversation


def delta(text, part="text"):
    return {"type": "delta", "text": text, "part": part}


def test_merged_events_and_repetitions_are_counted_right(conversation):
    frames = events((2, 2, delta("ab")), (2, 1, delta("b")), (3, 1, delta("c")))
    assert [conversation.receive(frame) for frame in frames] == ["ab", "", "c"]


def test_only_the_answers_own_text_is_printed(conversation):
    frames = events((1, 1, delta("hmm", "reasoning")), (2, 1, delta("{}", "tool")), (3, 1, delta("yes")))
    assert [conversation.receive(frame) for frame in frames] == ["", "", "yes"]


def test_a_hole_is_told(conversation):
    first, third = events((1, 1, delta("a")), (3, 1, delta("c")))
    conversation.receive(first)
    with pytest.raises(ConversationFailed, match="missing"):
        conversation.receive(third)


def test_a_wrong_receipt_is_told(conversation):
    receipt = {"offset": 2, "characters": 1, "sha256": hashlib.sha256(b"b").hexdigest()}
    for frame in events((1, 1, delta("a")), (2, 1, {"type": "completed", "receipt": receipt})):
        conversation.receive(frame)
    assert conversation.end.proven is False


def test_a_gap_begins_the_answer_again(conversation):
    for frame in events((1, 1, delta("a")), (2, 1, delta("b"))):
        conversation.receive(frame)
    assert conversation.receive('{"type":"gap","generation_id":"g1"}') == "\n\n"
    receipt = {"offset": 3, "characters": 2, "sha256": hashlib.sha256(b"ab").hexdigest()}
    for frame in events((2, 2, delta("ab")), (3, 1, {"type": "completed", "receipt": receipt})):
        conversation.receive(frame)
    assert conversation.end.proven is True


def test_what_is_gone_is_told(conversation):
    with pytest.raises(ConversationFailed, match="no longer keeps"):
        conversation.receive('{"type":"reply","id":2,"ok":true,"streams":{"g1":{"status":"gone"}}}')


def test_a_refusal_is_told():
    with pytest.raises(ConversationFailed, match=r"No such kind\. \(bad_request\)"):
        Conversation("x").receive('{"type":"error","id":1,"code":"bad_request","status":400,"message":"No such kind."}')


def test_a_cancel_that_came_too_late_is_no_failure(conversation):
    assert conversation.receive('{"type":"error","id":3,"code":"gone","status":410,"message":"It ended."}') == ""


def test_presets_are_listed_with_what_they_are_for(run):
    status, out, _ = run("presets")
    assert status == 0
    assert re.search(r"^demo +The demo: ", out, re.MULTILINE)


@pytest.mark.parametrize("command", ["check", "routes"])
def test_a_preset_is_shown_like_a_file(run, command):
    status, out, err = run(command, "--preset", "demo")
    assert (status, err) == (0, "")
    assert "/v1/images/*" in out


def test_a_file_over_a_preset_is_named_where_both_cannot_work(run, tmp_path):
    path = tmp_path / "over.toml"
    path.write_text("[[routes]]\npath = '/*'\nupstream = 'chat'\n")
    status, _, err = run("check", "--preset", "demo", "--config", str(path))
    assert status == 1
    assert err.startswith(f"tidegate: {path} over the preset demo: routes[1]")


def test_a_token_for_a_preset_is_one_that_its_routes_take(run):
    _, out, _ = run("token", "--preset", "nyro", "--sub", "42", "--company", "acme", "--email", "a@b.c")
    identity = TokenVerifier(load_config(None, {}, preset="nyro").auth).verify(out.strip())
    assert (identity.user_id, identity.company_id, identity.email) == ("42", "acme", "a@b.c")


def test_an_unknown_preset_is_a_wrong_command_line(run):
    status, out, err = run("serve", "--preset", "demmo")
    assert (status, out) == (2, "")
    assert "Did you mean demo?" in err


def test_no_path_of_the_routes_is_cut_off_where_the_window_is_narrow(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    code, output, _ = run("routes", "--preset", "llm-platform")
    assert code == 0
    assert "…" not in output
    assert "/api/chat/sessions/{session_id}" in "".join(re.findall(r"^│ (\S*) *│", output, re.MULTILINE))
