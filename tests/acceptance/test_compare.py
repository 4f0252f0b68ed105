"""The effect of another model is reported before it is used, and no files are left behind."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from contract.models import KNOWN_MODELS
from tests import documented
from tests.acceptance.conftest import SAMPLE
from tests.command_line import rerankq
from tests.processes import rerankq_process
from worker.engine.model_paths import bundled_path
from worker.engine.revisions import fingerprint

PACKAGES = (
    *("--corpus", str(SAMPLE / "corpus.jsonl")),
    *("--queries", str(SAMPLE / "queries.jsonl")),
    *("--run", str(SAMPLE / "bm25.trec")),
)
#: The parts of lines that neither the second model nor the speed of the machine affects.
EXACT = re.compile(r"first stage.*|50 queries.*|A( 0\.\d+){3}|")

BOTH = ("--model", "bundled", "--model", KNOWN_MODELS[0])
#: The second model on the page.
NEW = "/srv/models/new"


@pytest.fixture
def both(rounded: str) -> tuple[str, ...]:
    return ("--model", "bundled", "--model", rounded)


@pytest.fixture
def ten_queries(tmp_path: Path) -> tuple[str, ...]:
    """Return the options of the first ten queries of the sample, and of their judgments."""
    for name in ("bm25.trec", "qrels.tsv"):
        lines = (SAMPLE / name).read_text().splitlines(keepends=True)
        (tmp_path / name).write_text("".join(line for line in lines if line[:3] <= "q10"))
    run, qrels = str(tmp_path / "bm25.trec"), str(tmp_path / "qrels.tsv")
    return (*PACKAGES[:4], "--run", run, "--qrels", qrels)


def test_a_model_is_compared_with_a_similar_one_on_the_sample(
    environment: dict[str, str],
    both: tuple[str, ...],
    rounded: str,
    ten_queries: tuple[str, ...],
    tmp_path: Path,
) -> None:
    # When both score the best of a part of the sample
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    done = rerankq_process(
        *("compare", *ten_queries, *both, "--depth", "12", "--json"),
        environment=environment | {"TMPDIR": str(temporary)},
    )
    assert done.returncode == 0, done.stderr

    # Then all of it is compared
    (line,) = done.stdout.splitlines()
    said = json.loads(line)
    assert (said["a"]["model"], said["b"]["model"]) == ("bundled", rounded)
    assert said["a"]["revision"] == fingerprint(bundled_path()) != said["b"]["revision"]
    assert (said["queries"], said["pairs"], said["failed_queries"]) == (10, 120, 0)
    # And the scores are close, but not the same
    assert 0.0 < said["mean_difference"] < said["largest_difference"] < 2.0
    assert 0.9 < said["mean_overlap"] <= 1.0
    assert 0.9 < said["mean_tau"] < 1.0
    # And the measures are those of two re-scorings
    measured = said["measures"]
    assert measured["first_stage"]["nDCG@10"] == pytest.approx(0.5747, abs=1e-4)
    assert measured["a"]["nDCG@10"] == pytest.approx(0.6273, abs=1e-3)
    change = measured["b"]["nDCG@10"] - measured["a"]["nDCG@10"]
    assert measured["change"]["nDCG@10"] == pytest.approx(change)
    # And the largest changes can be shown, and no file is left
    assert 0 < len(said["changed_most"]) <= 5
    assert all(each["query"] for each in said["changed_most"])
    assert list(temporary.iterdir()) == []


def test_the_command_of_the_page_prints_the_tables_that_it_shows(
    environment: dict[str, str], rounded: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(SAMPLE)
    command, *_ = documented.commands("docs/guides/comparing-models.md")

    arguments = shlex.split(command.text.replace("\\\n", "").replace(NEW, rounded))[1:]
    done = rerankq(*arguments, environment=environment)

    assert done.returncode == 0, done.stderr
    shown = comparable("\n".join(command.shown))
    printed = (done.stderr + done.stdout).replace(rounded, NEW)
    assert documented.matches(shown, comparable(printed)), printed


def comparable(lines: str) -> list[str]:
    """Return the lines without the numbers that differ between machines."""
    found = []
    for line in documented.comparable(lines):
        exact = EXACT.match(line)
        length = exact.end() if exact else 0
        found.append(line[:length] + re.sub(r"[-+]?\d\S*", "N", line[length:]))
    return found


def test_ten_documents_are_always_the_same_ten(
    environment: dict[str, str], both: tuple[str, ...], ten_queries: tuple[str, ...]
) -> None:
    done = rerankq("compare", *ten_queries, *both, "--depth", "3", environment=environment)

    assert done.returncode == 0, done.stderr
    assert "queries with at most 10 documents" in done.stdout
    assert "first stage, best 3 " in done.stdout


def test_a_query_that_fails_is_named_and_the_others_are_compared(
    environment: dict[str, str], both: tuple[str, ...], tmp_path: Path
) -> None:
    # Given a text that is too long only for the worker, and a text that looks like markup
    requests = tmp_path / "requests.jsonl"
    texts = {"q[/1]": "x" * 1_100_000, "q[/2]": "a game"}
    requests.write_text(
        "\n".join(
            json.dumps(
                {
                    "query_id": query,
                    "query": "chess [/bold]",
                    "candidates": [{"id": "d1", "text": text}, {"id": "d2", "text": "a mail"}],
                }
            )
            for query, text in texts.items()
        )
    )

    done = rerankq(
        *("compare", "--input", str(requests), *both, "--pairs-per-job", "1"),
        environment=environment | {"RERANKQ_MAX_TEXT_CHARS": "2000000"},
    )

    assert done.returncode == 3, done.stderr
    assert "limit_exceeded" in done.stderr
    assert "excluded 1 query that failed with either model: q[/1]" in done.stderr
    assert "1 query, 2 pairs" in done.stdout


def test_a_model_that_the_worker_does_not_allow_is_found_before_either_scores(
    environment: dict[str, str],
) -> None:
    allowed = {"RERANKQ_ALLOWED_MODELS": "bundled,/no/such"}

    done = rerankq(
        *("compare", *PACKAGES, "--model", "bundled", "--model", "/no/such"),
        environment=environment | allowed,
    )

    assert (done.returncode, done.stdout) == (1, "")
    assert "model '/no/such' is not allowed" in done.stderr
    assert "scored" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((*PACKAGES, "--model", "bundled"), "--model twice"),
        ((*PACKAGES, *BOTH, "--model", "third"), "--model twice"),
        ((*PACKAGES, "--model", "bundled", "--model", "bundled"), "'bundled'"),
        ((*PACKAGES, "--model", "bundled", "--model", "no/such"), "'no/such' is not allowed"),
        (BOTH, "--input"),
        ((*BOTH, "--input", "/no/such/file"), "/no/such/file"),
        # A model is refused before the input is read
        ((*BOTH[:2], "--model", "bundled@int8", "--input", "/no/such/file"), "'bundled@int8'"),
        ((*BOTH[:2], "--cascade", "no/such", "--input", "/no/such/file"), "'no/such' is not"),
        (("--model", "llm:a", "--passages", "64", *PACKAGES), "no effect on language models"),
        ((*BOTH, *PACKAGES, "--stride", "64"), "no effect without --passages"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    environment: dict[str, str], arguments: tuple[str, ...], said: str
) -> None:
    done = rerankq("compare", *arguments, environment=environment)

    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr.splitlines()[-1]


def test_help_lists_exit_codes_and_environment_variables() -> None:
    done = rerankq("compare", "--help", environment={})

    assert done.returncode == 0
    assert "Exit codes:" in done.stdout
    assert "RERANKQ_COMPARE_" in done.stdout
