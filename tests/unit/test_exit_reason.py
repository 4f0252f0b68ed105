"""The notes of children about their start decide for all processes why a worker ends."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

import rerankq_bundled_model
from contract.errors import ModelUnavailable, OutOfMemory
from tests.processes import linux_only
from worker.runtime import memory_limit, restart, shared_models
from worker.runtime.exit_reason import MAX_DEATHS, ExitReason, ModelLoading
from worker.runtime.settings import WorkerSettings

TWO_CHILDREN = ModelLoading(["stub"], 2, shared=False)


@dataclass
class Worker:
    """The parts of Celery's worker that this uses."""

    exitcode: int | None = None


def in_child(call: Callable[[], object]) -> None:
    """Make a call in a fork of this process."""
    child = multiprocessing.get_context("fork").Process(target=call)
    child.start()
    child.join(30)
    assert child.exitcode == 0


def code_and_reason(reason: ExitReason, caplog: pytest.LogCaptureFixture) -> tuple[int | None, str]:
    worker = Worker()
    reason.report(worker)
    return worker.exitcode, "".join(caplog.messages)


def test_without_a_reason_nothing_is_said(caplog: pytest.LogCaptureFixture) -> None:
    assert code_and_reason(ExitReason(), caplog) == (None, "")


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_the_first_reason_of_a_child_counts_and_is_told_by_the_main_process(
    caplog: pytest.LogCaptureFixture,
) -> None:
    reason = ExitReason()

    in_child(lambda: reason.loading_failed(ModelUnavailable("no such model"), TWO_CHILDREN))
    in_child(lambda: reason.loading_failed(OutOfMemory("too large"), TWO_CHILDREN))

    code, said = code_and_reason(reason, caplog)
    assert code == restart.EXIT_NO_MODEL
    assert said == "Worker exiting with code 69: no such model."


def test_lack_of_memory_is_told_with_the_way_out(caplog: pytest.LogCaptureFixture) -> None:
    reason = ExitReason()

    reason.loading_failed(OutOfMemory("too large"), TWO_CHILDREN)

    code, said = code_and_reason(reason, caplog)
    assert code == restart.EXIT_NO_MEMORY
    assert "--concurrency" in said


@pytest.mark.parametrize(
    ("shared", "estimate"),
    [(False, memory_limit.need_bytes), (True, memory_limit.need_bytes_of_shared_models)],
)
def test_the_memory_needed_depends_on_whether_children_share_their_models(
    shared: bool, estimate: Callable[[int, int], int], caplog: pytest.LogCaptureFixture
) -> None:
    reason = ExitReason()

    reason.loading_failed(OutOfMemory("too large"), ModelLoading(["bundled"], 9, shared=shared))

    weights = memory_limit.weight_bytes(rerankq_bundled_model.PATH)
    need_mb = estimate(weights, 9) / memory_limit.MB
    assert f"would need about {need_mb:,.0f} MB" in code_and_reason(reason, caplog)[1]


@linux_only
@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, True),
        ({"prompt": "query: "}, False),
        ({"device": "cuda"}, False),
        ({"downgrade_model": "stub"}, False),
    ],
    ids=str,
)
def test_children_share_models_of_our_own_networks_on_a_cpu_without_a_prompt(
    settings: dict[str, Any], expected: bool
) -> None:
    loaded = WorkerSettings.load(cross_encoder_model="bundled", **settings)

    assert shared_models.can_share(loaded) is expected


def test_a_supervised_worker_says_when_it_is_started_again(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(restart.DELAY_VARIABLE, "20")
    reason = ExitReason()

    reason.decide(restart.EXIT_NO_MODEL, "no such model")

    assert code_and_reason(reason, caplog)[1].endswith("Restarting in 20 s.")


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_children_that_end_while_they_load_end_the_worker_if_none_has_loaded_meanwhile(
    caplog: pytest.LogCaptureFixture,
) -> None:
    reason = ExitReason()

    def start_in_vain() -> None:
        reason.child_starts_loading(0, TWO_CHILDREN)

    def start() -> None:
        start_in_vain()
        reason.child_has_loaded(0)

    # Given children that ended while they loaded, but not as many in a row
    for _ in range(2):
        for _ in range(MAX_DEATHS - 1):
            in_child(start_in_vain)
        in_child(start)
    assert code_and_reason(reason, caplog) == (None, "")
    # When that many do
    for _ in range(MAX_DEATHS + 1):
        in_child(start_in_vain)
    # Then the worker ends
    code, said = code_and_reason(reason, caplog)
    assert code == restart.EXIT_NO_MODEL
    assert f"{MAX_DEATHS} child processes in a row ended while loading 'stub'" in said


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_the_main_process_knows_which_children_have_loaded() -> None:
    reason = ExitReason()
    pids = multiprocessing.get_context("fork").SimpleQueue()

    def load() -> None:
        reason.child_starts_loading(1, TWO_CHILDREN)
        reason.child_has_loaded(1)
        pids.put(multiprocessing.current_process().pid)

    in_child(load)

    assert pids.get() in reason.loaded_pids()
