"""The manifests in k8s/: what Kubernetes takes, and nothing in them that does not exist."""

from __future__ import annotations

import importlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import kubernetes_validate
import pytest
import yaml

from app.config import load_config
from app.config.presets import preset_file
from app.config.variables import variables_in
from app.errors import ConfigError
from tests.support.gateway import free_port

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "k8s").glob("*.yaml"))
OBJECTS = [(path.name, one) for path in FILES for one in yaml.safe_load_all(path.read_text())]
BY_KIND: dict[str, list[dict[str, Any]]] = {}
for _, _one in OBJECTS:
    BY_KIND.setdefault(_one["kind"], []).append(_one)
DEPLOYMENTS = BY_KIND["Deployment"]
CONTAINERS = [(it, one) for it in DEPLOYMENTS for one in it["spec"]["template"]["spec"]["containers"]]
(GATEWAY,) = (one for _, one in CONTAINERS if one["name"] == "gateway")
SECRET = {"GATEWAY_JWT_SECRET": "a-secret-of-this-test-that-is-long-enough"}


def given(container: dict[str, Any]) -> dict[str, str]:
    """Return the environment that the manifests give a container."""
    known = {one["metadata"]["name"]: one for kind in ("ConfigMap", "Secret") for one in BY_KIND[kind]}
    environ: dict[str, str] = {}
    for source in container.get("envFrom", []):
        (reference,) = source.values()
        found = known[reference["name"]]
        environ |= found.get("data", {}) | found.get("stringData", {})
    return environ | {one["name"]: one["value"] for one in container.get("env", [])}


@pytest.mark.parametrize(("name", "manifest"), OBJECTS, ids=[f"{name}-{one['kind']}" for name, one in OBJECTS])
def test_every_manifest_is_what_kubernetes_takes(name: str, manifest: dict[str, Any]) -> None:
    kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)
    assert manifest["metadata"]["namespace"] == "nyro-develop"


def test_the_schemas_do_find_what_is_wrong() -> None:
    wrong = {**DEPLOYMENTS[0], "spec": {**DEPLOYMENTS[0]["spec"], "replica": 2}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, kubernetes_validate.latest_version(), strict=True)


def test_the_system_s_manifests_are_all_there() -> None:
    assert {path.name for path in FILES} >= {
        *("gateway-configmap.yaml", "gateway-secret.yaml", "gateway-deployment.yaml", "gateway-service.yaml"),
        *("gateway-hpa.yaml", "gateway-pdb.yaml"),
    }
    assert {one["metadata"]["name"] for one in BY_KIND["ConfigMap"] + BY_KIND["Secret"]} == {
        "api-gateway-config",
        "api-gateway-secrets",
    }
    assert "gateway-service" in {one["metadata"]["name"] for one in BY_KIND["Service"]}


def test_every_variable_is_one_that_is_read() -> None:
    known = variables_in(preset_file("nyro").read_text())
    environ = given(GATEWAY)
    plain = {name for name in environ if "__" not in name}
    assert plain <= known
    assert known - plain == set(), "every variable of the preset is listed"
    config = load_config(None, environ | SECRET, preset="nyro")  # Names with __ that are no settings are refused.
    assert config.server.port == 8080
    for _, container in CONTAINERS:
        if container is not GATEWAY:
            service = container["command"][-1]
            (settings,) = (
                value
                for value in vars(importlib.import_module(f"{service}.settings")).values()
                if isinstance(value, type) and value.__module__ == f"{service}.settings"
            )
            settings.from_environ(given(container))
            assert set(given(container)) <= {settings.prefix + name.upper() for name in settings.model_fields}


def test_the_committed_secret_is_only_a_form_that_production_refuses() -> None:
    with pytest.raises(ConfigError, match="everybody knows"):
        load_config(None, given(GATEWAY), preset="nyro")


def test_selectors_ports_volumes_and_references_meet() -> None:
    for deployment, container in CONTAINERS:
        template = deployment["spec"]["template"]
        labels = template["metadata"]["labels"].items()
        assert deployment["spec"]["selector"]["matchLabels"].items() <= labels
        volumes = {volume["name"] for volume in template["spec"]["volumes"]}
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
        ports = {port["name"] for port in container["ports"]}
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            assert probe not in container or container[probe]["httpGet"]["port"] in ports
    for service in BY_KIND["Service"]:
        behind = [
            {port["name"] for port in container["ports"]}
            for deployment, container in CONTAINERS
            if service["spec"]["selector"].items() <= deployment["spec"]["template"]["metadata"]["labels"].items()
        ]
        assert any(service["spec"]["ports"][0]["targetPort"] in ports for ports in behind), service["metadata"]["name"]
    names = {one["metadata"]["name"] for one in DEPLOYMENTS}
    assert BY_KIND["HorizontalPodAutoscaler"][0]["spec"]["scaleTargetRef"]["name"] in names
    budget = BY_KIND["PodDisruptionBudget"][0]["spec"]
    assert budget["minAvailable"] < BY_KIND["HorizontalPodAutoscaler"][0]["spec"]["minReplicas"]
    services = {(one["metadata"]["name"], str(one["spec"]["ports"][0]["port"])) for one in BY_KIND["Service"]}
    environ = given(GATEWAY)
    for variable in ("GATEWAY_INGEST_SERVICE_URL", "GATEWAY_QUERY_SERVICE_URL"):
        address = urlsplit(environ[variable])
        assert address.hostname is not None
        name, namespace = address.hostname.split(".")[:2]
        assert (name, str(address.port)) in services
        assert namespace == "nyro-develop"


def test_a_pod_has_the_time_that_its_drain_takes() -> None:
    server = load_config(None, given(GATEWAY) | SECRET, preset="nyro").server
    drain = server.drain_delay + max(server.drain_window, server.drain_grace, server.stop_timeout)
    (grace,) = [
        one["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
        for one in DEPLOYMENTS
        if one["metadata"]["name"] == "api-gateway"
    ]
    assert grace > drain


def test_the_services_probes_are_paths_that_they_have() -> None:
    for _, container in CONTAINERS:
        if container is GATEWAY:
            continue
        service = container["command"][-1]
        paths = {
            route.path  # type: ignore[attr-defined]
            for route in importlib.import_module(f"{service}.app").create_app().routes
            if hasattr(route, "path")
        }
        for probe in ("livenessProbe", "readinessProbe"):
            assert container[probe]["httpGet"]["path"] in paths
        assert importlib.util.find_spec(f"{service}.__main__") is not None


def test_the_gateway_s_command_answers_its_probes_and_its_drain_ends_it(tmp_path: Path) -> None:
    port = free_port()
    environ = {**os.environ, **given(GATEWAY), **SECRET, "PORT": str(port), "REDIS_URL": ""}
    environ |= {"GATEWAY_SERVER__PID_FILE": str(tmp_path / "pid"), "GATEWAY_SERVER__DRAIN_DELAY": "0.2"}
    program = [sys.executable, "-m", "app.cli"]
    with subprocess.Popen([*program, *GATEWAY["args"]], cwd=ROOT, env=environ, stderr=subprocess.DEVNULL) as process:
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
                answered(process, client, GATEWAY["startupProbe"]["httpGet"]["path"])
                for probe in ("livenessProbe", "readinessProbe"):
                    assert client.get(GATEWAY[probe]["httpGet"]["path"]).status_code == 200
            first, *arguments = GATEWAY["lifecycle"]["preStop"]["exec"]["command"]
            assert first == "tidegate"
            drained = subprocess.run([*program, *arguments], cwd=ROOT, env=environ, timeout=90, check=False)
            assert drained.returncode == 0
            process.wait(30)
        finally:
            process.kill()


def answered(process: subprocess.Popen[bytes], client: httpx.Client, path: str) -> None:
    for _ in range(1200):
        assert process.poll() is None, "the gateway ended at its start"
        try:
            if client.get(path).status_code == 200:
                return
        except httpx.TransportError:
            pass
        try:
            process.wait(0.05)
        except subprocess.TimeoutExpired:
            continue
    raise AssertionError("the gateway does not answer")
