"""The commands of the compose file as processes of this machine, and a user's first steps."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml

from producer.cli.loopback import free_port
from tests import processes
from tests.processes import linux_only, wait_until
from tests.stub_models import STUB

pytestmark = linux_only

ROOT = Path(__file__).parents[2]
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())[
    "services"
]
PASSWORD = "aPasswordOfTheTests"  # noqa: S105


def command(service: str) -> list[str]:
    """Return the command of a service, with the defaults of its variables."""
    words = [*SERVICES[service].get("entrypoint", ()), *SERVICES[service].get("command", ())]
    defaults = (re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", word) for word in words)
    return [word.replace("$$", "$") for word in defaults]


@contextmanager
def running(arguments: list[str], folder: Path, environment: Mapping[str, str]) -> Iterator[Path]:
    """Run the command in this folder; its output goes to the given file."""
    log = folder / f"{Path(arguments[0]).name}-{free_port()}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            arguments, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            yield log
        finally:
            processes.end(process)


def command_lines() -> list[str]:
    lines = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(file.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:  # it has ended
            continue
    return lines


def answers(port: int, password: str | None) -> bool:
    with redis.Redis(port=port, password=password) as connection:
        try:
            return bool(connection.ping())
        except redis.ConnectionError:  # also without the password
            return False


def test_no_password_is_in_the_list_of_processes(tmp_path: Path) -> None:
    # Given Redis as in the compose file, on a port and an address of the tests
    port = free_port()
    shim = tmp_path / "redis-server"
    real = processes.program("redis-server")
    shim.write_text(f'#!/bin/sh\nexec {real} "$@" --port {port} --bind 127.0.0.1\n')
    shim.chmod(0o755)
    path = os.pathsep.join([str(tmp_path), str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {
        "PATH": path,
        "PYTHONPATH": str(ROOT),
        "REDISCLI_AUTH": PASSWORD,
        "REDIS_MAXMEMORY": "100mb",
        "RERANKQ_REDIS_URL": f"redis://:{PASSWORD}@127.0.0.1:{port}/0",
        "CROSS_ENCODER_MODEL": STUB,
        "FLOWER_BASIC_AUTH": f"rerankq:{PASSWORD}2",
        "FLOWER_PORT": str(free_port()),
        "RERANKQ_HTTP_TOKEN": f"{PASSWORD}3",
        "FLOWER_DB": str(tmp_path / "flower"),
    }
    with ExitStack() as stack:
        stack.enter_context(running(command("redis"), tmp_path, environment))
        wait_until(lambda: answers(port, PASSWORD), "Redis answers")
        assert not answers(port, None)

        # And the others as in the compose file
        logs = [
            stack.enter_context(running(command(name), tmp_path, environment))
            for name in ("worker", "flower")
        ]
        metrics = ["rerankq", "metrics", "--serve", "--port", str(free_port())]
        stack.enter_context(running(metrics, tmp_path, environment))
        server = [*command("http"), "--host", "127.0.0.1", "--port", str(free_port())]
        logs.append(stack.enter_context(running(["rerankq", *server], tmp_path, environment)))
        # Each look at the worker's health starts a process.
        wait_until(lambda: " ready." in logs[0].read_text(), "the worker is ready")
        health = SERVICES["worker"]["healthcheck"]["test"][1:]
        wait_until(
            lambda: subprocess.run(health, env=environment, capture_output=True).returncode == 0,
            "the worker is healthy",
        )

        # Then no password appears in the list of processes or in logs
        lines = command_lines()
        assert any("worker.restart" in line for line in lines)
        assert [line for line in lines if PASSWORD in line] == []
        assert [log for log in logs if PASSWORD in log.read_text()] == []


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Return the files that `deploy/env.sh` reads, which every user may read."""
    tmp_path.chmod(0o755)
    made = tmp_path / "clone"
    (made / "data").mkdir(parents=True)
    shutil.copytree(ROOT / "deploy", made / "deploy")
    shutil.copy(ROOT / ".env.example", made)
    return made


def make_env(clone: Path, **environment: str) -> dict[str, str]:
    subprocess.run(
        ["/bin/sh", clone / "deploy" / "env.sh"],
        env={"PATH": os.environ["PATH"]} | environment,
        check=True,
    )
    found: list[tuple[str, str]] = re.findall(r"^(\w+)=(.*)$", (clone / ".env").read_text(), re.M)
    return dict(found)


def test_env_sh_makes_passwords_that_nobody_else_can_read(clone: Path) -> None:
    made = make_env(clone)

    passwords = [value for name, value in made.items() if name.endswith(("_PASSWORD", "_TOKEN"))]
    assert len(passwords) == len(set(passwords)) == 4
    assert all(re.fullmatch("[0-9a-f]{48}", each) for each in passwords)
    assert (clone / ".env").stat().st_mode & 0o777 == 0o600


def test_env_sh_has_the_command_line_run_as_who_calls_it_but_never_as_root(clone: Path) -> None:
    user = make_env(clone)["RESCORE_USER"]

    if os.getuid():
        assert user == f"{os.getuid()}:{os.getgid()}"
    else:
        assert user == "10001:10001"
        assert (clone / "data").stat().st_uid == 10001


def test_env_sh_with_sudo_takes_the_user_behind_it(clone: Path) -> None:
    assert make_env(clone, SUDO_UID="1234", SUDO_GID="1235")["RESCORE_USER"] == "1234:1235"


def test_env_sh_leaves_a_file_that_is_there(clone: Path) -> None:
    (clone / ".env").write_text("REDIS_PASSWORD=mine\n")

    done = subprocess.run(["/bin/sh", clone / "deploy" / "env.sh"], capture_output=True, text=True)

    assert done.returncode == 1
    assert done.stderr.startswith(".env already exists")
    assert (clone / ".env").read_text() == "REDIS_PASSWORD=mine\n"


def test_models_of_the_image_are_in_the_cache_and_those_it_lost_are_not(tmp_path: Path) -> None:
    # Given a cache with a link to a model that is gone, and a model that came from the hub
    cache = tmp_path / "cache" / "hub"
    (cache / "models--from--hub").mkdir(parents=True)
    (cache / "models--not--there").symlink_to(tmp_path / "nowhere")
    script = (ROOT / "deploy" / "with-models.sh").read_text()
    image = tmp_path / "image"
    for name in ("models--in--image", "models--from--hub"):
        (image / name).mkdir(parents=True)
    moved = tmp_path / "with-models.sh"
    moved.write_text(script.replace("/opt/models/hub", str(image)))

    # When a command runs there
    done = subprocess.run(
        ["/bin/sh", moved, "echo", "it runs"],
        env={"PATH": os.environ["PATH"], "HF_HOME": str(cache.parent)},
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout == "it runs\n"
    assert sorted(each.name for each in cache.iterdir()) == [
        "models--from--hub",
        "models--in--image",
    ]
    assert (cache / "models--in--image").resolve() == image / "models--in--image"
    assert not (cache / "models--from--hub").is_symlink()
