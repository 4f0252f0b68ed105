"""Importing the producer is cheap: it loads no model library, and only what the caller names."""

from __future__ import annotations

import importlib
import json
import pkgutil
import subprocess
import sys

import pytest

import contract
import producer
import worker.jobs
import worker.monitoring
import worker.runtime
from tests.unit.conftest import FreshEngine

MODEL_SIDE = {"torch", "sentence_transformers", "transformers", "worker"}


def modules_after(code: str) -> set[str]:
    """Return the names of all modules that a new interpreter has loaded after running `code`."""
    report = f"{code}\nimport json, sys; print(json.dumps(list(sys.modules)))"
    run = subprocess.run(
        [sys.executable, "-c", report], capture_output=True, text=True, check=True, timeout=60
    )
    return set(json.loads(run.stdout.splitlines()[-1]))


def test_importing_the_producer_loads_no_model_and_no_client() -> None:
    loaded = modules_after("import producer")
    assert "producer" in loaded
    assert loaded & (MODEL_SIDE | {"celery", "redis", "producer.client.blocking"}) == set()


def test_importing_both_clients_loads_no_model() -> None:
    loaded = modules_after("from producer import RerankClient, AsyncRerankClient")
    assert {"producer.client.blocking", "producer.client.asynchronous"} <= loaded
    assert loaded & MODEL_SIDE == set()


def test_the_command_line_loads_no_model() -> None:
    loaded = modules_after("from producer.cli import main; print(*main.commands.values())")
    assert "producer.cli.rescore" in loaded
    assert loaded & MODEL_SIDE == set()


def test_the_command_line_loads_only_the_command_that_is_run() -> None:
    loaded = modules_after("from producer.cli import main; print(main.commands['worker'])")
    assert "producer.cli.celery_commands" in loaded
    assert loaded & {"celery", "redis", "producer.client", "producer.cli.rescore"} == set()


def test_a_folder_that_does_not_exist_is_found_without_the_model_libraries() -> None:
    loaded = modules_after(
        "import contextlib, contract.errors, worker.engine\n"
        "worker.engine.import_libraries(['/nowhere/at-all'])\n"
        "with contextlib.suppress(contract.errors.ModelUnavailable):\n"
        "    worker.engine.load('/nowhere/at-all')\n"
    )
    assert "worker.engine.loader" in loaded
    assert loaded & {"torch", "sentence_transformers"} == set()


def test_the_workers_main_modules_load_no_model() -> None:
    """Check these modules, which Flower imports on machines without torch."""
    names = (
        "worker.celery",
        "worker.jobs.tasks",
        "worker.jobs.child_outcomes",
        "worker.jobs.sweeper",
        "worker.runtime.pool",
    )
    loaded = modules_after(f"import {', '.join(names)}")
    assert set(names) <= loaded
    assert loaded & (MODEL_SIDE - {"worker"} | {"numpy", "pythonjsonlogger"}) == set()


def test_importing_the_workers_modules_reads_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RERANKQ_REDIS_URL", "nonsense")
    names = [
        f"{package.__name__}.{each.name}"
        for package in (worker.jobs, worker.monitoring, worker.runtime)
        for each in pkgutil.iter_modules(package.__path__)
    ]
    assert len(names) >= 20

    assert modules_after(f"import {', '.join(names)}") >= set(names)


def test_the_health_check_loads_no_model_and_no_task() -> None:
    loaded = modules_after("import worker.health")
    assert "worker.health" in loaded
    assert (
        loaded & (MODEL_SIDE - {"worker"} | {"worker.jobs.tasks", "worker.runtime.pool"}) == set()
    )


#: The queue, which neither scoring nor reranking in the caller's process needs.
QUEUE = {"celery", "kombu", "billiard", "redis"}


def test_the_engine_loads_no_queue_and_a_model_only_when_it_is_named(
    fresh_engine: FreshEngine,
) -> None:
    loaded = modules_after("import worker.engine")
    assert loaded & (QUEUE | {"torch", "numpy", "pydantic"}) == set()

    loaded = fresh_engine.imported
    assert {"torch", "worker.engine.fast_engine"} <= loaded
    assert loaded & (QUEUE | {"contract.settings", "worker.runtime"}) == set()


def test_the_stub_engine_loads_no_torch() -> None:
    loaded = modules_after("from worker.engine import load; load('stub').score([('a', 'b')])")
    assert "worker.engine.stub" in loaded
    assert loaded & (QUEUE | {"torch", "transformers", "joblib"}) == set()


@pytest.mark.parametrize("module", ["worker.inprocess", "worker.reranker", "worker.pipeline"])
def test_reranking_in_ones_own_process_loads_no_queue_and_no_model_yet(module: str) -> None:
    names = [name for name in importlib.import_module(module).__all__ if not name.startswith("_")]
    loaded = modules_after(f"from {module} import {', '.join(names)}")
    assert "worker.inprocess.reranker" in loaded
    assert loaded & (QUEUE | {"torch", "worker.runtime"}) == set()


def test_reranking_with_the_stub_loads_neither_queue_nor_torch() -> None:
    loaded = modules_after(
        "from worker.inprocess import CrossEncoderReranker, DocumentChunkWithScore, QueryResult\n"
        "given = [QueryResult(chunk=DocumentChunkWithScore(text='a document'))]\n"
        "assert CrossEncoderReranker('stub').rerank('a query', given)[0].score is not None"
    )
    assert "worker.engine.stub" in loaded
    assert loaded & (QUEUE | {"torch"}) == set()


@pytest.mark.parametrize("package", ["worker.engine", "worker.inprocess"])
def test_every_public_name_of_the_worker_can_be_imported_and_no_other(package: str) -> None:
    found = importlib.import_module(package)
    assert all(hasattr(found, name) for name in found.__all__)
    assert sorted(found._HOMES) == sorted(found.__all__)
    assert not hasattr(found, "NoSuchThing")


def test_every_public_name_can_be_imported_and_no_other() -> None:
    names = ", ".join(producer.__all__)
    assert "producer" in modules_after(f"from producer import {names}")
    modules_after("import producer\nassert not hasattr(producer, 'NoSuchThing')")
    assert sorted(producer._HOMES) == sorted(producer.__all__)


def test_the_whole_contract_loads_neither_celery_nor_either_side() -> None:
    names = [f"contract.{each.name}" for each in pkgutil.iter_modules(contract.__path__)]
    assert len(names) >= 7
    loaded = modules_after(f"import {', '.join(names)}")
    assert loaded >= set(names)
    assert loaded & (MODEL_SIDE | {"celery", "kombu", "producer"}) == set()
