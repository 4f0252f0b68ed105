"""Schemas accept what kustomize builds from `deploy/kubernetes`, and it agrees with the code."""

from __future__ import annotations

import functools
import importlib.util
import json
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from celery.bin.celery import celery

from contract.environment import variable
from contract.settings import Settings
from producer.cli import main
from producer.http.settings import HttpSettings
from producer.monitoring import prometheus
from tests import processes
from worker.runtime.settings import WorkerSettings

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "kubernetes"
VARIANTS = (
    *("base", "overlays/keda", "overlays/managed-redis", "overlays/gpu"),
    "overlays/nightly",
)
#: The newest version that the schemas of `kubernetes_validate` describe, and the oldest one tested.
VERSIONS = (kubernetes_validate.latest_version(), "1.32.0")
OURS = {"rerankq-worker", "rerankq-flower", "rerankq-http", "rerankq-metrics"}

Manifest = dict[str, Any]


@functools.cache
def build(variant: str) -> tuple[Manifest, ...]:
    """Return the objects of a variant."""
    kubectl = processes.program("kubectl")
    done = subprocess.run(
        [kubectl, "kustomize", FOLDER / variant], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return tuple(yaml.load_all(done.stdout, Loader=loader))


@pytest.fixture(params=VARIANTS)
def objects(request: pytest.FixtureRequest) -> tuple[Manifest, ...]:
    return build(request.param)


def find(objects: tuple[Manifest, ...], kind: str, name: str) -> Manifest:
    """Return the only object of a kind with a name."""
    (found,) = (
        each for each in objects if each["kind"] == kind and each["metadata"]["name"] == name
    )
    return found


def pods(objects: tuple[Manifest, ...]) -> Iterator[tuple[str, Manifest]]:
    """Yield the name and the pod of each workload."""
    for each in objects:
        if each["kind"] in ("Deployment", "StatefulSet"):
            yield each["metadata"]["name"], each["spec"]["template"]["spec"]
        elif each["kind"] == "CronJob":
            pod = each["spec"]["jobTemplate"]["spec"]["template"]["spec"]
            yield each["metadata"]["name"], pod


def container(objects: tuple[Manifest, ...], name: str) -> Manifest:
    """Return the container of a workload of ours."""
    (found,) = dict(pods(objects))[name]["containers"]
    made: Manifest = found
    return made


def settings_of(objects: tuple[Manifest, ...]) -> dict[str, str]:
    """Return the variables that all pods of ours read."""
    (found,) = (each["data"] for each in objects if each["kind"] == "ConfigMap")
    made: dict[str, str] = found
    return made


def mebibytes(quantity: str) -> float:
    """Return the number of MiB of a quantity such as `1Gi`."""
    units = {"Mi": 1.0, "Gi": 1024.0}
    return float(quantity[:-2]) * units[quantity[-2:]]


def scaled_object(variant: str) -> Manifest:
    return find(build(variant), "ScaledObject", "rerankq-worker")


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_would_accept_every_object(version: str) -> None:
    # The variants have many objects in common
    different = {json.dumps(each): each for variant in VARIANTS for each in build(variant)}
    kinds = [each["kind"] for each in different.values()]

    for each in different.values():
        if each["kind"] != "ScaledObject":
            kubernetes_validate.validate(each, version, strict=True)
    assert kinds.count("Deployment") > 4


def test_a_misspelt_field_would_be_found() -> None:
    wrong = json.loads(json.dumps(find(build("base"), "Deployment", "rerankq-worker")))
    wrong["spec"]["template"]["spec"]["terminationGracePeriod"] = 700

    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[0], strict=True)


def test_keda_would_accept_its_object() -> None:
    schema = json.loads(Path(__file__).with_name("scaled_object.schema.json").read_text())
    for variant in VARIANTS[1:]:
        jsonschema.validate(scaled_object(variant), schema)

    wrong = json.loads(json.dumps(scaled_object(VARIANTS[1])))
    wrong["spec"]["coolDownPeriod"] = 1
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, schema)


def test_nothing_is_reachable_from_outside(objects: tuple[Manifest, ...]) -> None:
    kinds = {each["kind"] for each in objects}
    services = [each for each in objects if each["kind"] == "Service"]

    assert kinds.isdisjoint({"Ingress", "Gateway", "HTTPRoute"})
    assert {each["spec"]["type"] for each in services} == {"ClusterIP"}
    for name, pod in pods(objects):
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod), name
        ports = [port for each in pod["containers"] for port in each.get("ports", ())]
        assert not any("hostPort" in port for port in ports), name
    default = find(objects, "NetworkPolicy", "rerankq-default")["spec"]
    assert default["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in default


def test_every_pod_runs_without_privileges(objects: tuple[Manifest, ...]) -> None:
    for name, pod in pods(objects):
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert pod["automountServiceAccountToken"] is False, name
        # The variables of a service, such as RERANKQ_HTTP_PORT, would be taken for settings.
        assert pod["enableServiceLinks"] is False, name
        for each in pod["containers"] + pod.get("initContainers", []):
            assert each["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name
            mounts = {mount["mountPath"] for mount in each["volumeMounts"]}
            assert "/tmp" in mounts, name  # noqa: S108
            assert each["resources"]["limits"]["memory"] == each["resources"]["requests"]["memory"]
    namespace = find(objects, "Namespace", "rerankq")
    labels = namespace["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_passwords_come_from_secrets_that_are_not_in_the_files(
    objects: tuple[Manifest, ...],
) -> None:
    assert all(each["kind"] != "Secret" for each in objects)
    for name in OURS:
        environment = {each["name"]: each for each in container(objects, name)["env"]}
        for secret in {"RERANKQ_REDIS_URL", "RERANKQ_HTTP_TOKEN", "FLOWER_BASIC_AUTH"}:
            if secret in environment:
                assert set(environment[secret]["valueFrom"]) == {"secretKeyRef"}
        assert "RERANKQ_REDIS_URL" in environment
    assert "RERANKQ_HTTP_TOKEN" in str(container(objects, "rerankq-http")["env"])
    assert "FLOWER_BASIC_AUTH" in str(container(objects, "rerankq-flower")["env"])


def test_every_variable_is_a_setting(
    objects: tuple[Manifest, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {
        str(field.validation_alias or variable(name))
        for kind in (Settings, WorkerSettings, HttpSettings)
        for name, field in kind.model_fields.items()
    }
    of_others = {"HF_HUB_OFFLINE"}
    flowers = {"FLOWER_ADDRESS", "FLOWER_BASIC_AUTH", "FLOWER_READ_ONLY", "FLOWER_DB"}

    settings = settings_of(objects)
    assert set(settings) <= known | of_others
    for name in OURS:
        named = {each["name"] for each in container(objects, name)["env"]}
        assert named <= known | (flowers if name == "rerankq-flower" else set()), name

    for each, value in settings.items():
        monkeypatch.setenv(each, value)
    assert WorkerSettings.load().cross_encoder_model == settings["CROSS_ENCODER_MODEL"]
    HttpSettings.load()


def test_programs_and_ports_are_those_of_the_code(objects: tuple[Manifest, ...]) -> None:
    # Given the commands of the containers
    worker = container(objects, "rerankq-worker")
    (health,) = {
        tuple(worker[probe]["exec"]["command"])
        for probe in ("startupProbe", "readinessProbe", "livenessProbe")
    }

    # Then the modules and commands exist
    assert health == ("python", "-m", "worker.health")
    for module in ("worker.health", "worker.restart"):
        assert importlib.util.find_spec(module)
    assert worker["args"][:3] == ["python", "-mworker.restart", "celery"]
    assert container(objects, "rerankq-flower")["command"][0] == celery.name == "celery"
    for name, port in (("rerankq-http", 8080), ("rerankq-metrics", 9808)):
        command, *options = container(objects, name)["args"]
        main.commands[command].make_context(command, list(options))
        assert options[-1] == str(port)

    # And each service leads to the port that its container listens on
    for name, port in (("rerankq-flower", 5555), ("rerankq-http", 8080), ("rerankq-metrics", 9808)):
        (of_service,) = find(objects, "Service", name)["spec"]["ports"]
        (of_container,) = container(objects, name)["ports"]
        assert of_service["targetPort"] == of_container["name"]
        assert (of_service["port"], of_container["containerPort"]) == (port, port)


def test_the_images_are_those_of_the_dockerfile_in_this_version(
    objects: tuple[Manifest, ...],
) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    targets = re.findall(r"^FROM base AS (\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)

    images = [each["image"] for _, pod in pods(objects) for each in pod["containers"]]
    for each in images:
        image, _, tag = each.partition(":")
        if image == "redis":
            continue
        assert image.removeprefix("rerankq-").removesuffix("-cuda") in targets
        assert tag == version


def test_a_stopping_worker_has_the_time_to_finish_its_job(objects: tuple[Manifest, ...]) -> None:
    worker = dict(pods(objects))["rerankq-worker"]
    liveness = container(objects, "rerankq-worker")["livenessProbe"]

    limit_s = WorkerSettings.load().time_limit_s
    assert worker["terminationGracePeriodSeconds"] > limit_s
    # A Redis that is away for that long does not end it
    assert liveness["periodSeconds"] * liveness["failureThreshold"] > limit_s


def test_a_worker_has_the_memory_of_the_sizing_table(objects: tuple[Manifest, ...]) -> None:
    # Given the row of the table for the model of the settings
    page = (ROOT / "docs" / "operations" / "sizing.md").read_text()
    (row,) = re.findall(r"^\| six layers .*$", page, re.MULTILINE)
    cells = row.strip("|").split("|")
    _, _, one, further, loading = (
        max(map(float, re.findall(r"\d+", cell)), default=0.0) for cell in cells
    )

    # Then the limit is the largest sum plus a third, as that page says
    worker = container(objects, "rerankq-worker")
    (children,) = re.findall(r"--concurrency=(\d+)", " ".join(worker["args"]))
    needed = max(one + (int(children) - 1) * further, loading) * 4 / 3
    assert mebibytes(worker["resources"]["limits"]["memory"]) * 2**20 > needed * 10**6


def test_keda_reads_metrics_that_there_are_from_the_exporter() -> None:
    gauges = {f"rerankq_{gauge.name}" for gauge in prometheus.GAUGES}
    for variant in VARIANTS[1:]:
        for trigger in scaled_object(variant)["spec"]["triggers"]:
            metadata = trigger["metadata"]
            assert metadata["url"] == "http://rerankq-metrics.rerankq.svc:9808/metrics"
            name, state = re.fullmatch(
                r'(\w+)(?:\{state="(queued|running)"\})?', metadata["valueLocation"]
            ).groups()  # type: ignore[union-attr]
            assert name in gauges
            assert (state is not None) == (name == "rerankq_unfinished_pairs")
        # The number of messages says nothing about work
        assert "messages" not in str(scaled_object(variant))


def test_keda_scales_the_worker_to_zero_and_not_before_its_longest_job_ends() -> None:
    for variant in VARIANTS[1:]:
        spec = scaled_object(variant)["spec"]
        deployment = find(build(variant), "Deployment", spec["scaleTargetRef"]["name"])
        assert spec["minReplicaCount"] == 0
        assert spec["cooldownPeriod"] > WorkerSettings.load().time_limit_s
        # Otherwise each `kubectl apply` would scale it
        assert "replicas" not in deployment["spec"]
        # A request to the HTTP service waits until the first worker has started
        settings = settings_of(build(variant))
        no_worker_s = float(settings["RERANKQ_HTTP_NO_WORKER_S"])
        assert 60 < no_worker_s < float(settings["RERANKQ_HTTP_TIMEOUT_S"])


def test_a_worker_on_a_gpu_has_one_for_itself() -> None:
    worker = container(build("overlays/gpu"), "rerankq-worker")
    deployment = find(build("overlays/gpu"), "Deployment", "rerankq-worker")

    assert worker["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert deployment["spec"]["strategy"]["rollingUpdate"]["maxSurge"] == 0
    assert settings_of(build("overlays/gpu"))["RERANKQ_DEVICE"] == "cuda"
    assert all("nvidia.com/gpu" not in str(pod) for _, pod in pods(build("base")))


def test_every_night_a_job_starts_a_worker_before_the_run_waits_for_one() -> None:
    # Given the programs of the nightly job
    pod = dict(pods(build("overlays/nightly")))["rerankq-rescore"]
    (start,), (run,) = pod["initContainers"], pod["containers"]
    *_, script = start["command"]

    # Then the first one submits a job
    program, command, *options = script.partition(" | ")[2].split()
    assert program == run["command"][0] == "rerankq"
    main.commands[command].make_context(command, list(options))

    # And the other one waits for longer than a request does, with valid options
    _, name, *options = run["command"]
    known = {option for each in main.commands[name].params for option in each.opts}
    assert {each.partition("=")[0] for each in options} <= known
    (wait_s,) = re.findall(r"--worker-wait=(\d+)", " ".join(options))
    no_worker_s = settings_of(build("overlays/nightly"))["RERANKQ_HTTP_NO_WORKER_S"]
    assert float(wait_s) > float(no_worker_s)
    mounts = {each["mountPath"] for each in run["volumeMounts"]}
    assert {"/data", "/var/tmp"} <= mounts  # noqa: S108


def test_a_managed_redis_replaces_the_one_of_the_base() -> None:
    own = [
        each["metadata"]["name"] for each in build("base") if "redis" in each["metadata"]["name"]
    ]
    managed = build("overlays/managed-redis")

    assert own == ["redis", "redis", "rerankq-redis"]
    assert not [each for each in managed if "redis" in each["metadata"]["name"]]
    for name in OURS:
        mounts = container(managed, name)["volumeMounts"]
        assert {"name": "redis-ca", "mountPath": "/etc/rerankq/redis", "readOnly": True} in mounts


def test_the_redis_of_the_base_keeps_all_it_has() -> None:
    (redis,) = dict(pods(build("base")))["redis"]["containers"]
    lines = [line.strip() for line in redis["command"][-1].splitlines()]

    assert {"appendonly yes", "maxmemory-policy noeviction"} < set(lines)
    (maxmemory,) = re.findall(r"maxmemory (\d+)mb", redis["command"][-1])
    assert mebibytes(redis["resources"]["limits"]["memory"]) >= 2 * int(maxmemory)
