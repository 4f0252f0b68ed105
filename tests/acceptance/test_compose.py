"""The compose file, its settings, and the files for Prometheus and Grafana, without an engine."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import prometheus_client
import pytest
import yaml
from flower.events import get_prometheus_metrics

from contract import metrics as counters
from contract.settings import Settings
from producer.http.settings import HttpSettings
from producer.monitoring import prometheus
from tests import processes
from worker.runtime.settings import WorkerSettings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
EXAMPLE = (ROOT / ".env.example").read_text()
TEXT = (ROOT / "docker-compose.yml").read_text()
FILE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = FILE["services"]
#: The services with our own images.
OURS = {name for name, each in SERVICES.items() if each["image"].startswith("rerankq-")}
PASSWORDS = ("REDIS_PASSWORD", "FLOWER_PASSWORD", "HTTP_TOKEN", "GRAFANA_PASSWORD")
DASHBOARDS = sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))

#: Variables that only Flower itself reads.
FLOWER_ONLY = {"flower_open"}


@pytest.fixture(params=["docker-compose", "docker compose"])
def program(request: pytest.FixtureRequest) -> list[str]:
    """Return each of the two that this machine has; the second is a plugin of `docker`."""
    if request.param == "docker-compose":
        return [processes.program("docker-compose")]
    command: list[str] = request.param.split()
    there = shutil.which(command[0]) is not None
    if not there or subprocess.run([*command, "version"], capture_output=True).returncode:
        pytest.skip(f"no {request.param} here")
    return command


def example_with(passwords: dict[str, str]) -> str:
    """Return `.env.example` with passwords filled in."""
    filled = EXAMPLE
    for name, password in passwords.items():
        filled = re.sub(rf"^{name}=$", f"{name}={password}", filled, flags=re.MULTILINE)
    return filled


def config(program: list[str], folder: Path, content: str) -> subprocess.CompletedProcess[str]:
    """Return the output of `config` with this content of `.env`, and nothing else set."""
    env_file = folder / "env"
    env_file.write_text(content)
    profiles = ("--profile=metrics", "--profile=rescore", "--profile=cli")
    return subprocess.run(
        [*program, "-f", ROOT / "docker-compose.yml", "--env-file", env_file, *profiles, "config"],
        env={name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
        capture_output=True,
        text=True,
        check=False,
    )


def by_default(text: str) -> str:
    """Return the text with `${NAME:-default}` replaced by the default."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


def test_the_example_with_passwords_is_all_that_compose_needs(
    program: list[str], tmp_path: Path
) -> None:
    # When the example is filled in
    content = example_with({name: f"{name.lower()}1" for name in PASSWORDS})
    done = config(program, tmp_path, content)

    # Then all services are there, and each password is where it is used
    assert done.returncode == 0, done.stderr
    assert "not set" not in done.stderr
    services = yaml.safe_load(done.stdout)["services"]
    assert set(services) == set(SERVICES)
    for name in OURS:
        url = services[name]["environment"]["RERANKQ_REDIS_URL"]
        assert url == "redis://:redis_password1@redis:6379/0"
    login = services["flower"]["environment"]["FLOWER_BASIC_AUTH"]
    assert login == "rerankq:flower_password1"


@pytest.mark.parametrize("missing", PASSWORDS[:3])
def test_a_missing_password_is_an_error_that_names_it(
    program: list[str], tmp_path: Path, missing: str
) -> None:
    content = example_with({name: "given" for name in PASSWORDS if name != missing})

    done = config(program, tmp_path, content)

    assert done.returncode != 0
    assert f"set {missing} in .env" in done.stderr


def test_no_password_of_grafana_is_an_error_for_those_who_want_it_only(
    program: list[str], tmp_path: Path
) -> None:
    # Given no password for Grafana
    content = example_with(dict.fromkeys(PASSWORDS[:3], "given"))

    # Then the file is valid
    assert config(program, tmp_path, content).returncode == 0

    # And Grafana does not start
    shell, option, script = SERVICES["grafana"]["entrypoint"]
    done = subprocess.run(
        [shell, option, script.replace("$$", "$")],
        env={"GF_SECURITY_ADMIN_PASSWORD": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (78, "set GRAFANA_PASSWORD in .env\n")


def test_the_worker_on_a_gpu_is_an_addition_to_the_file(program: list[str], tmp_path: Path) -> None:
    env_file = tmp_path / "env"
    env_file.write_text(example_with(dict.fromkeys(PASSWORDS, "given")))
    files = ("-f", ROOT / "docker-compose.yml", "-f", DEPLOY / "gpu.yml")

    done = subprocess.run(
        [*program, *files, "--env-file", env_file, "config"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    worker = yaml.safe_load(done.stdout)["services"]["worker"]
    assert worker["deploy"]["resources"]["reservations"]["devices"][0]["driver"] == "nvidia"


def test_redis_keeps_all_it_has() -> None:
    lines = [line.strip() for line in SERVICES["redis"]["command"][-1].splitlines()]

    assert {"appendonly yes", "maxmemory-policy noeviction"} < set(lines)
    assert "redis:/data" in SERVICES["redis"]["volumes"]


@pytest.mark.parametrize("password", ["a b", "a\nb", 'a"b', "a@b", "a/b"])
def test_a_password_that_is_no_part_of_a_url_is_refused_by_redis(password: str) -> None:
    shell, option, script = SERVICES["redis"]["command"]

    done = subprocess.run(
        [shell, option, script.replace("$$", "$")],
        env={"REDISCLI_AUTH": password},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 78
    assert done.stderr.startswith(
        "REDIS_PASSWORD in .env may contain only letters, digits and ._~-"
    )


def test_no_password_is_part_of_a_command(program: list[str], tmp_path: Path) -> None:
    passwords = {name: f"{name.lower()}1" for name in PASSWORDS}
    services = yaml.safe_load(config(program, tmp_path, example_with(passwords)).stdout)["services"]

    for name, service in services.items():
        commands = [service.get(key) for key in ("command", "entrypoint", "healthcheck")]
        for password in passwords.values():
            assert password not in str(commands), name


def test_ports_are_published_for_people_and_on_loopback_only() -> None:
    published = {name: each["ports"] for name, each in SERVICES.items() if "ports" in each}

    assert set(published) == {"flower", "http", "prometheus", "grafana"}
    for ports in published.values():
        assert all(port.startswith("127.0.0.1:") for port in ports)
    assert all("network_mode" not in each for each in SERVICES.values())


def test_flower_needs_a_login_and_only_shows() -> None:
    environment = SERVICES["flower"]["environment"]

    assert environment["FLOWER_BASIC_AUTH"].count(":?") == 1
    assert by_default(environment["FLOWER_READ_ONLY"]) == "true"
    assert "RERANKQ_FLOWER_OPEN" not in environment


def test_a_worker_has_the_time_to_finish_its_job_and_a_limit_of_memory() -> None:
    worker = SERVICES["worker"]

    grace = by_default(worker["stop_grace_period"])
    assert int(grace.removesuffix("s")) > WorkerSettings.load().time_limit_s
    assert by_default(worker["mem_limit"]) == "3g"
    assert worker["healthcheck"]["test"] == ["CMD", "python", "-m", "worker.health"]


def test_there_can_be_many_workers() -> None:
    assert not {"container_name", "hostname", "ports"} & set(SERVICES["worker"])


def test_every_setting_in_the_environment_reaches_those_who_read_it() -> None:
    def variables(kind: type[Settings]) -> set[str]:
        fields = kind.model_fields.items()
        return {
            str(field.validation_alias or f"RERANKQ_{name.upper()}")
            for name, field in fields
            if name not in FLOWER_ONLY
        }

    kinds: dict[str, type[Settings]] = {"worker": WorkerSettings, "http": HttpSettings}
    for name in OURS:
        kind = kinds.get(name, Settings)
        assert variables(kind) <= set(SERVICES[name]["environment"]), name


def test_every_variable_of_the_example_is_one_that_compose_knows() -> None:
    named = set(re.findall(r"^#?(\w+)=", EXAMPLE, flags=re.MULTILINE))
    interpolated = set(re.findall(r"\$\{(\w+)", TEXT))
    passed_on = {key for each in SERVICES.values() for key in each.get("environment") or {}}

    assert set(PASSWORDS) <= named
    assert named - interpolated - passed_on == set()
    # Conversely, all settings of the stack itself are in the example.
    assert interpolated - named == set()


def test_the_example_holds_no_password() -> None:
    assert re.findall(r"^#?\w*(?:PASSWORD|TOKEN)=.+", EXAMPLE, flags=re.MULTILINE) == []


def test_every_service_runs_without_privileges_and_writes_to_volumes_only() -> None:
    for name, service in SERVICES.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["read_only"] is True, name
        assert service["tmpfs"][0] == "/tmp", name  # noqa: S108
        assert service["pids_limit"] > 0, name
        assert not by_default(service.get("user", "10001")).startswith("0"), name
        assert "privileged" not in service, name
    # The image's entrypoint would run as root for a moment
    assert SERVICES["redis"]["user"] == "999:1000"


def test_a_worker_has_no_swap_beside_its_memory() -> None:
    assert SERVICES["worker"]["memswap_limit"] == SERVICES["worker"]["mem_limit"]


def test_who_depends_on_another_stops_before_it_and_flower_after_the_worker() -> None:
    assert set(SERVICES["worker"]["depends_on"]) == {"redis", "flower"}
    assert set(SERVICES["flower"]["depends_on"]) == {"redis"}


def test_both_images_run_as_a_user_who_is_not_root() -> None:
    stages = re.split(r"^FROM ", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    users = {
        stage.split()[2]: re.findall(r"^USER (\S+)", stage, flags=re.MULTILINE)
        for stage in stages[1:]
    }

    for name in OURS:
        target = SERVICES[name]["image"].removeprefix("rerankq-")
        assert users[target] == ["10001:10001"]


def test_what_comes_from_elsewhere_is_pinned_by_its_tag() -> None:
    images = {each["image"] for name, each in SERVICES.items() if name not in OURS}
    stages = re.findall(r"^FROM (\S+) AS (\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    images |= {image for image, _ in stages} - {name for _, name in stages}

    assert len(images) == 4
    assert all(re.search(r":v?\d+\.\d+\.\d+", image) for image in images), images


def test_who_asks_for_nothing_gets_redis_a_worker_and_flower() -> None:
    started = {name for name, each in SERVICES.items() if "profiles" not in each}
    with_metrics = {name for name, each in SERVICES.items() if each.get("profiles") == ["metrics"]}

    assert started == {"redis", "worker", "flower", "http"}
    assert with_metrics == {"metrics", "prometheus", "grafana"}


def expressions(dashboard: Path) -> list[str]:
    panels = json.loads(dashboard.read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel.get("targets", ())]


def rules() -> list[str]:
    groups = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"]
    return [rule["expr"] for group in groups for rule in group["rules"]]


def ours() -> set[str]:
    """Return the names of the samples of `rerankq metrics`."""
    gauges = {f"rerankq_{gauge.name}" for gauge in prometheus.GAUGES}
    return gauges | {f"rerankq_{each.name}_total" for each in counters.ALL} | {"rerankq_redis_up"}


def flowers() -> set[str]:
    """Return the names of the samples of Flower's /metrics."""
    get_prometheus_metrics()
    endings = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}
    return {
        f"{family.name}{ending}"
        for family in prometheus_client.REGISTRY.collect()
        if family.name.startswith("flower_")
        for ending in endings[family.type]
    }


def test_the_dashboard_and_the_alerts_ask_for_metrics_that_there_are() -> None:
    asked = " ".join(rules() + [each for path in DASHBOARDS for each in expressions(path)])
    named = set(re.findall(r"\b(?:rerankq|flower)_\w+", asked))

    assert named - ours() - flowers() == set()
    assert named & ours()
    assert named & flowers()


def test_the_dashboard_shows_whatever_rerankq_counts() -> None:
    shown = " ".join(each for path in DASHBOARDS for each in expressions(path))

    hidden = {name for name in ours() if not re.search(rf"\b{name}\b", shown)}
    # It shows pairs instead, because the number of queries in a job is the caller's choice.
    assert hidden == {"rerankq_queries_total"}


def test_the_dashboard_finds_the_data_source_that_is_provisioned() -> None:
    provisioned = yaml.safe_load(
        (DEPLOY / "grafana" / "provisioning" / "datasources" / "prometheus.yml").read_text()
    )["datasources"]
    for path in DASHBOARDS:
        dashboard = json.loads(path.read_text())
        (variable,) = dashboard["templating"]["list"]
        assert [each["uid"] for each in provisioned] == [variable["current"]["value"]]
        used = re.findall(r'"uid": "(\$\{\w+\})"', path.read_text())
        assert set(used) == {f"${{{variable['name']}}}"}
        assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


@pytest.mark.parametrize(
    "check",
    [
        ("check", "config", DEPLOY / "prometheus" / "prometheus.yml"),
        ("test", "rules", Path(__file__).with_name("alerts_test.yml")),
    ],
    ids=["config", "rules"],
)
def test_prometheus_accepts_its_configuration_and_alerts_fire(check: tuple[str | Path]) -> None:
    promtool = processes.program("promtool")
    done = subprocess.run([promtool, *check], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
