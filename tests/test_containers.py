"""What the container files name exists. Nothing is built here."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

from app.config import load_config, preset_names

ROOT = Path(__file__).parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]


def instructions(name: str) -> list[list[str]]:
    return [shlex.split(line)[1:] for line in DOCKERFILE.splitlines() if line.startswith(name + " ")]


def ignored(path: str) -> bool:
    """Return whether .dockerignore, a list of exceptions to "all", keeps ``path`` out of the build."""
    lines = (ROOT / ".dockerignore").read_text().split()
    assert lines[0] == "*"
    return f"!{path.split('/', maxsplit=1)[0]}" not in lines


def test_what_the_image_copies_exists_and_is_not_ignored():
    sources = [source for words in instructions("COPY") if "--from=build" not in words for source in words[:-1]]
    assert sources
    for source in sources:
        assert (ROOT / source).exists(), source
        assert not ignored(source), source


def test_the_image_runs_without_privileges_and_says_how_it_is():
    assert instructions("USER") == [["tidegate"]]
    assert len(instructions("FROM")) == 2
    assert instructions("ENTRYPOINT") == [["[tidegate]"]]
    health = next(line for line in DOCKERFILE.splitlines() if line.startswith("HEALTHCHECK"))
    assert "/health/live" in health
    assert "curl" not in DOCKERFILE


def test_the_python_of_the_image_is_one_that_the_project_takes():
    for words in instructions("FROM"):
        major, minor = re.match(r"python:(\d+)\.(\d+)-slim", words[0]).groups()
        assert (int(major), int(minor)) >= (3, 11)


def test_services_depend_on_services_that_exist_and_can_be_waited_for():
    for name, service in SERVICES.items():
        for other, condition in service.get("depends_on", {}).items():
            assert other in SERVICES, name
            healthy = condition["condition"] == "service_healthy"
            assert not healthy or "healthcheck" in SERVICES[other] or SERVICES[other].get("build") == "."


def test_mounted_files_exist():
    volumes = [volume for service in SERVICES.values() for volume in service.get("volumes", [])]
    assert volumes
    for volume in volumes:
        assert (ROOT / volume.split(":")[0]).is_file(), volume


def test_commands_name_modules_and_files_that_exist():
    gateway, chat = SERVICES["gateway"], SERVICES["chat"]
    assert gateway["command"][0] == "serve"
    assert gateway["command"][gateway["command"].index("--preset") + 1] in preset_names()
    assert chat["entrypoint"] == ["python", "-m", "services.chat"]
    assert (ROOT / "services" / "chat" / "__main__.py").is_file()


def test_two_replicas_share_one_valkey():
    assert SERVICES["gateway"]["deploy"]["replicas"] == 2
    assert "valkey" in SERVICES


def test_the_gateways_environment_is_a_right_configuration():
    entries = dict(entry.partition("=")[::2] for entry in SERVICES["gateway"]["environment"] if "=" in entry)
    config = load_config(None, entries, preset="demo")
    assert config.broker.redis_url.get_secret_value() == "redis://valkey:6379/0"
    port = SERVICES["chat"]["command"][SERVICES["chat"]["command"].index("--port") + 1]
    assert config.upstreams["chat"].targets == (f"http://chat:{port}",)
    for name in ("image", "code", "speech"):
        command = SERVICES[name]["command"]
        assert SERVICES[name]["entrypoint"] == ["python", "-m", f"services.{name}"]
        assert config.upstreams[name].targets == (f"http://{name}:{command[command.index('--port') + 1]}",)


def test_the_images_environment_is_a_right_configuration():
    entries = dict(re.findall(r"(GATEWAY_\w+)=(\S+)", DOCKERFILE))
    assert load_config(None, entries).server.host == "0.0.0.0"


def test_the_load_balancer_asks_the_replicas_for_readiness_and_keeps_sockets_open():
    text = (ROOT / "deploy" / "haproxy.conf").read_text()
    assert "GET /health/ready" in text
    assert re.search(r"server-template \w+ 2 gateway:8080", text)
    assert "timeout tunnel" in text


@pytest.mark.parametrize("path", [".ci/run", "tests/install-browser.sh"])
def test_scripts_can_be_run(path):
    assert (ROOT / path).stat().st_mode & 0o111


def test_what_make_runs_exists():
    text = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z]+):", text, re.MULTILINE))
    assert {"install", "demo", "test", "check", "bench", "format", "docs", "clean"} <= targets
    for script in re.findall(r"sh (tests/\S+)", text):
        assert (ROOT / script).is_file()
    for module in re.findall(r"python -m (docs\.\w+)", text):
        assert (ROOT / (module.replace(".", "/") + ".py")).is_file()


def test_every_pinned_version_is_exact():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert lines
    assert all(re.fullmatch(r"[a-z0-9-]+==[\w.]+", line) for line in lines)
