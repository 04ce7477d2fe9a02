"""What the container files name exists. Nothing is built here."""

import importlib
import re
import shlex
import tomllib
from pathlib import Path

import pytest

from app.config import load_config, preset_names
from app.config.presets import preset_file
from app.config.variables import variables_in
from services.web.settings import ServiceSettings
from tests.support.compose import SERVICES, VOLUMES, port_of, variables

ROOT = Path(__file__).parents[1]
GATEWAYS = [name for name, it in SERVICES.items() if it.get("build") == "." and "entrypoint" not in it]
DOCKERFILE = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")


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


def test_the_image_can_do_all_that_a_configuration_may_ask_for():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    asked = set(re.search(r"'\.\[([\w,]+)\]'", DOCKERFILE)[1].split(","))
    while (
        more := {
            each
            for extra in asked
            for entry in extras[extra]
            if entry.startswith("tidegate[")
            for each in entry[9:-1].split(",")
        }
        - asked
    ):
        asked |= more
    assert asked == set(extras) - {"dev"}


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
        if not volume.startswith("."):
            assert volume.split(":")[0] in VOLUMES
            continue
        assert (ROOT / volume.split(":")[0]).is_file(), volume


def profiles() -> list[str]:
    return sorted({profile for service in SERVICES.values() for profile in service["profiles"]})


def test_a_profile_has_all_that_it_needs():
    assert set(profiles()) <= set(preset_names())
    for name, service in SERVICES.items():
        for other in service.get("depends_on", {}):
            assert set(service["profiles"]) <= set(SERVICES[other]["profiles"]), (name, other)


def test_commands_name_presets_and_modules_that_exist():
    own = {name: service for name, service in SERVICES.items() if service.get("build") == "."}
    for name, service in own.items():
        if "entrypoint" not in service:
            assert service["command"][:2] == ["serve", "--preset"]
            assert service["command"][2] in preset_names()
            continue
        *python, module = service["entrypoint"]
        assert python == ["python", "-m"]
        assert (ROOT / module.replace(".", "/") / "__main__.py").is_file(), name
        assert f"http://127.0.0.1:{port_of(service)}/health" in service["healthcheck"]["test"][-1]


def test_what_services_are_told_are_settings_that_they_have():
    for name, service in SERVICES.items():
        if "entrypoint" not in service or service.get("build") != ".":
            continue
        module = service["entrypoint"][-1]
        settings_module = importlib.import_module(f"{module}.settings")
        (settings,) = [
            it for it in vars(settings_module).values()
            if isinstance(it, type) and issubclass(it, ServiceSettings) and it.__module__ == settings_module.__name__
        ]  # fmt: skip
        told = variables(service)
        settings.from_environ(told)
        names = [entry.partition("=")[0] for entry in service.get("environment", [])]
        known = {settings.prefix + field.upper() for field in settings.model_fields} | set(
            getattr(settings, "also", {}).values()
        )
        assert all(each in known or each.startswith("AWS_") for each in names), name


@pytest.mark.parametrize("name", GATEWAYS)
def test_a_gateway_finds_the_services_of_its_profile(name):
    service = SERVICES[name]
    (profile,) = service["profiles"]
    preset = service["command"][2]
    config = load_config(None, variables(service), preset=preset)
    assert preset == profile
    assert config.broker.redis_url.get_secret_value() == "redis://valkey:6379/0"
    if profile != "demo":
        assert config.server.port == 8080
    own = preset_file(preset).read_text()
    names = [entry.partition("=")[0] for entry in service["environment"]]
    assert all(each.startswith("GATEWAY_") or each in variables_in(own) for each in names)
    for upstream in config.upstreams.values():
        for target in upstream.targets:
            host, _, port = target.removeprefix("http://").partition(":")
            if host in SERVICES:
                assert profile in SERVICES[host]["profiles"]
                assert port == port_of(SERVICES[host])
            else:
                assert target in {
                    it for each in load_config(None, {}, preset=preset).upstreams.values() for it in each.targets
                }


@pytest.mark.parametrize("name", GATEWAYS)
def test_a_gateway_has_the_time_that_its_drain_takes(name):
    service = SERVICES[name]
    server = load_config(None, variables(service), preset=service["command"][2]).server
    drain = server.drain_delay + max(server.drain_window, server.drain_grace, server.stop_timeout)
    assert int(service["stop_grace_period"].removesuffix("s")) > drain


def test_two_replicas_share_one_valkey():
    assert SERVICES["gateway"]["deploy"]["replicas"] == 2
    assert "valkey" in SERVICES


def test_the_images_environment_is_a_right_configuration():
    entries = dict(re.findall(r"(GATEWAY_\w+)=(\S+)", DOCKERFILE))
    assert load_config(None, entries).server.host == "0.0.0.0"


def test_the_load_balancer_asks_the_replicas_for_readiness_and_keeps_sockets_open():
    text = (ROOT / "deploy" / "haproxy.conf").read_text()
    assert "GET /health/ready" in text
    assert re.search(r"server-template \w+ 2 gateway:8080", text)
    assert "timeout tunnel" in text


@pytest.mark.parametrize(
    "path", [".ci/run", "tests/install-browser.sh", "tests/install-kafka.sh", "tests/install-redis.sh"]
)
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
