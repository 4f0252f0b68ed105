"""Flower stops and starts without an effect on jobs, and keeps its state."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.acceptance.watching.conftest import Watched
from tests.flower_process import Flower
from tests.processes import linux_only, wait_until

pytestmark = linux_only


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_it_knows_what_it_knew_after_a_restart(
    watched: Watched, tmp_path: Path, how: signal.Signals
) -> None:
    # Given a Flower that knows a job, and has saved its state
    options = {"FLOWER_STATE_SAVE_INTERVAL": "200"}
    with Flower(watched.settings, tmp_path, **options) as flower:
        wait_until(lambda: flower.hears(watched.worker.name), "Flower hears the worker")
        job_id = watched.ledger.submit()
        watched.ledger.result(job_id)
        wait_until(lambda: state_of(flower, job_id) == "SUCCESS", "Flower shows the job")
        saved = flower.saved()
        wait_until(lambda: flower.saved() > saved, "Flower has saved it")
        # When it ends
        if how == signal.SIGKILL:
            flower.kill_between_saves()
        else:
            flower.process.terminate()
        flower.process.wait(30)
    # Then jobs continue without it, and its successor shows the jobs that it knew
    meanwhile = watched.ledger.submit()
    watched.ledger.result(meanwhile)
    with Flower(watched.settings, tmp_path, **options) as flower:
        assert state_of(flower, job_id) == "SUCCESS"


def state_of(flower: Flower, job_id: str) -> str | None:
    return flower.tasks().get(job_id, {}).get("state")
