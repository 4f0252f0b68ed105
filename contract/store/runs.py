"""Operations on runs of `rescore`, which report their progress while they work."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from contract.batches import RunProgress, RunState
from contract.store import scripts
from contract.store.operation import Operation, Schema

#: A run reports at least every ten seconds or so. After this time, its process was killed.
SILENT_S = 60


def note(schema: Schema, run: RunProgress) -> Operation[None]:
    """Store the progress of a run; the times in it are replaced by those of Redis' clock."""
    keys = schema.keys
    return scripts.call(
        "note_run",
        (keys.run(run.run_id), keys.runs),
        (run.run_id, run.model_dump_json(), schema.state_ttl_s),
        lambda _: None,
    )


def fetch(schema: Schema, at_most: int) -> Operation[list[RunProgress]]:
    """Return the runs that were started last, newest first; one that is silent is interrupted."""
    keys = schema.keys

    def read(replies: list[Any]) -> list[RunProgress]:
        now, *found = replies[0]
        return [run for each in found if (run := _read(float(now), *each)) is not None]

    return scripts.call("read_runs", (keys.runs,), (keys.run(""), at_most), read)


def _read(now: float, body: bytes, started_at: bytes, updated_at: bytes) -> RunProgress | None:
    try:
        run = RunProgress.model_validate_json(body, extra="ignore")
    except ValidationError:
        return None  # a run of a later version, in which a field has another meaning
    silent = run.state is RunState.RUNNING and now - float(updated_at) > SILENT_S
    changes = {"started_at": float(started_at), "updated_at": float(updated_at)}
    if not silent:
        return run.model_copy(update=changes)
    return run.model_copy(update={**changes, "state": RunState.INTERRUPTED, "left_s": None})
