"""A program that embeds a client keeps its process, and its own Celery app, unchanged."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from contract.settings import Settings
from producer import cli
from tests import processes
from tests.integration import host_programs
from tests.integration.redis_state import messages
from tests.processes import environment


def run(
    program: Callable[..., dict[str, Any]],
    *arguments: str,
    settings: Settings | None = None,
    **variables: str,
) -> dict[str, Any]:
    """Run a program in a new process; return its output."""
    if settings is not None:
        variables |= {
            "RERANKQ_REDIS_URL": settings.redis_url.get_secret_value(),
            "RERANKQ_NAMESPACE": settings.namespace,
        }
    done = subprocess.run(
        [sys.executable, "-m", host_programs.__name__, program.__name__, *arguments],
        cwd=Path(__file__).parents[2],
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    return outcome(done)


def outcome(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """Return what a program printed."""
    assert done.returncode == 0, done.stderr
    printed: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return printed


@pytest.mark.parametrize(
    "modules",
    [
        ("producer",),
        ("producer.client.asynchronous", "producer.client.blocking"),
        ("producer.monitoring.prometheus", "producer.cli", *sorted(set(cli.COMMANDS.values()))),
    ],
    ids=["package", "clients", "command line"],
)
def test_importing_the_producer_changes_nothing_in_its_process(modules: tuple[str, ...]) -> None:
    assert run(host_programs.import_modules, *modules) == {}


def test_a_client_that_was_used_and_closed_leaves_its_process_as_it_was(
    settings: Settings,
) -> None:
    assert run(host_programs.use_clients, settings=settings) == {}


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {
            "CELERY_BROKER_URL": "redis://127.0.0.1:1/0",
            "CELERY_BROKER_WRITE_URL": "redis://127.0.0.1:1/0",
            "CELERY_BROKER_READ_URL": "redis://127.0.0.1:1/0",
            "CELERY_RESULT_BACKEND": "redis://127.0.0.1:1/0",
            "CELERY_CONFIG_MODULE": "no_such_module_of_the_host",
            "CELERY_LOADER": "no.such.loader:Loader",
            "DJANGO_SETTINGS_MODULE": "no_such_settings",
        },
    ],
    ids=["no variables", "celery's variables"],
)
def test_a_client_inside_a_program_with_a_celery_app_of_its_own_uses_ours_alone(
    variables: dict[str, str], settings: Settings, client: redis.Redis
) -> None:
    found = run(host_programs.submit_within_a_task, settings=settings, **variables)

    assert found == {"current": True, "same": True, "result": "from-host", "children": 0}
    assert [each.id for each in messages(client, settings)] == ["from-host"]


def test_importing_the_in_process_reranker_changes_no_more_than_its_libraries_do() -> None:
    done = processes.run(
        host_programs.__name__,
        host_programs.import_reranker.__name__,
        environment={},
        folder=Path(__file__).parents[2],
        libraries=processes.MODEL_LIBRARIES,
    )

    assert outcome(done) == {}
