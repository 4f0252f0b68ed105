"""A run stops at the first result of another model, revision or length, and names the fix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from contract import jobs
from producer.rescore.outcomes import OutcomeRecorder
from tests.unit.test_journal import journal, ranking, result

FIRST, SECOND = "a" * 40, "b" * 40
FILES, OTHER_FILES = "sha256:00", "sha256:11"
RESTART = ", or pass --restart to score everything again"


def scored(query: int = 0, **provenance: Any) -> jobs.JobResult:
    made = result(ranking(f"q{query}", [1.0]))
    source = made.provenance.model_copy(update=provenance)
    return made.model_copy(update={"provenance": source})


def asked(model: str | None = None) -> jobs.Job:
    request = {"query_id": "q1", "query": "q", "candidates": [{"id": "d", "text": "t"}]}
    return jobs.parse(jobs.Job, {"id": "j1", "requests": [request], "model": model})


def mismatch(folder: Path, job: jobs.Job, first: Any, then: Any) -> str | None:
    """Return the mismatch of the second result after the first."""
    with journal(folder / "out.trec", folder) as made:
        recorder = OutcomeRecorder(made)
        source = scored(**first).provenance
        assert recorder.find_mismatch("j1", job.model, source) is None
        made.add_result(scored(**first))
        return recorder.find_mismatch("j1", job.model, scored(1, **then).provenance)


def named(model: str, revision: str | None) -> dict[str, Any]:
    return {"model_requested": model, "model": model, "revision": revision}


DOWNGRADED = {"model": "small", "downgraded": True}


@pytest.mark.parametrize(
    ("job", "first", "then", "found"),
    [
        pytest.param(
            asked(),
            named("org/name", FIRST),
            named("org/name", SECOND),
            f"by revision {SECOND} of 'org/name', but earlier jobs by {FIRST}; start the workers"
            f" with CROSS_ENCODER_MODEL=org/name@{FIRST}",
            id="another commit of the workers' model",
        ),
        pytest.param(
            asked(),
            named("org/name@v1", FIRST),
            named("org/name@v1", SECOND),
            f"of 'org/name@v1', but earlier jobs by {FIRST}; start the workers with"
            f" CROSS_ENCODER_MODEL=org/name@{FIRST}",
            id="a tag that was moved",
        ),
        pytest.param(
            asked(),
            {"revision": FIRST},
            DOWNGRADED | {"revision": FIRST},
            None,
            id="the first result of another model",
        ),
        pytest.param(
            asked(),
            DOWNGRADED | {"revision": FIRST},
            DOWNGRADED | {"revision": SECOND},
            f"start the workers with RERANKQ_DOWNGRADE_MODEL=small@{FIRST}",
            id="another commit of the downgrade model",
        ),
        pytest.param(
            asked("org/name"),
            named("org/name", FIRST),
            named("org/name", SECOND),
            "restore this revision of 'org/name' in the cache of the workers",
            id="another commit of the model that --model names",
        ),
        pytest.param(
            asked(),
            named("/srv/mine", FILES),
            named("/srv/mine", OTHER_FILES),
            f"by revision {OTHER_FILES} of '/srv/mine', but earlier jobs by {FILES}; give all"
            " workers the earlier files of the model",
            id="other files in the same folder",
        ),
        pytest.param(
            asked(),
            named("org/name", FIRST),
            named("org/name@v1", FIRST),
            None,
            id="the same commit by another name",
        ),
        pytest.param(
            asked(),
            named("org/name", FIRST),
            named("org/name@v2", SECOND),
            f"CROSS_ENCODER_MODEL=org/name@{FIRST}",
            id="another commit by another name",
        ),
        pytest.param(asked(), named("m", None), named("m", FIRST), None, id="a new worker"),
        pytest.param(asked(), named("m", FIRST), named("m", None), None, id="an old worker"),
        pytest.param(
            asked(),
            named("org/name", FIRST),
            named("org/name@v1", FIRST) | {"max_length": 256},
            "by 'org/name@v1' with a maximum length of 256 tokens, but earlier jobs with 512; start"
            " the workers with RERANKQ_MAX_LENGTH=512",
            id="another length",
        ),
        pytest.param(
            asked(),
            {"prompt": "find code"},
            {"prompt": "find text " * 10},
            "with the prompt 'find text find text find text find text find text find ...', but"
            " earlier jobs with the prompt 'find code'; start the workers with this RERANKQ_PROMPT",
            id="another prompt",
        ),
        pytest.param(
            asked(),
            {},
            {"prompt": "find code"},
            "with the prompt 'find code', but earlier jobs with no prompt from RERANKQ_PROMPT;"
            " start the workers without RERANKQ_PROMPT",
            id="a prompt",
        ),
    ],
)
def test_a_result_that_does_not_belong_to_the_run_is_found(
    tmp_path: Path, job: jobs.Job, first: Any, then: Any, found: str | None
) -> None:
    said = mismatch(tmp_path, job, first, then)
    if found is None:
        assert said is None
    else:
        assert said is not None
        assert said.startswith("job j1 was scored ")
        assert said.endswith(found + RESTART)
