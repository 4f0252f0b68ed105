"""Find the waiting jobs that no message will start, because messages or entries were lost.

Any message of a list starts the job whose turn it is: see `contract/store/lua/take_turn.lua`. A job
that waits is therefore not lost when its own message is gone. It is lost if there are fewer
messages than waiting jobs, or if the list of its group does not have it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from contract import names
from contract.store import scripts
from contract.store.blocking import JobStore
from contract.store.operation import Operation, Schema
from worker.jobs.job_snapshots import JobSnapshot


def find(
    store: JobStore, suspects: Sequence[JobSnapshot], lengths: Mapping[int, int]
) -> list[JobSnapshot]:
    """Return which of these waiting jobs are lost; `lengths` has the number of messages by step.

    Raises `RedisUnavailable`.
    """
    found: list[JobSnapshot] = []
    for step in names.PRIORITY_STEPS:
        of_step = [each for each in suspects if each.step == step]
        if of_step:
            waiting, missing = store.execute(_check(store.schema, step, of_step))
            found += [each for each, gone in zip(of_step, missing, strict=True) if gone]
            others = [each for each, gone in zip(of_step, missing, strict=True) if not gone]
            found += others[: max(0, waiting - lengths[step])]
    return found


def leave(schema: Schema, job: JobSnapshot) -> Operation[None]:
    """Remove a job from the list of its group, so that its next message starts it."""
    keys = (f"{schema.keys.turns}{job.step}", schema.keys.job(job.job_id))
    return scripts.call("leave_turn", keys, (job.job_id,), lambda _: None)


def _check(
    schema: Schema, step: int, jobs: Sequence[JobSnapshot]
) -> Operation[tuple[int, list[bool]]]:
    """Return how many jobs wait, and for each of `jobs` whether it is missing from its list."""

    def read(replies: list[Any]) -> tuple[int, list[bool]]:
        waiting, missing = replies[0]
        return waiting, list(map(bool, missing))

    ids = [each.job_id for each in jobs]
    key = f"{schema.keys.turns}{step}"
    return scripts.call("check_turns", (key,), (schema.keys.job(""), *ids), read)
