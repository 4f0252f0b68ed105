"""The README's commands re-score the sample: completely, once, in order, and exactly."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from contract.settings import Settings
from tests import processes
from tests.acceptance import documented_runs
from tests.acceptance.conftest import BUNDLED, SAMPLE, environment_of
from tests.acceptance.trec_runs import read_run
from tests.documented import ROOT, Command

#: Every fifth score is compared. To predict all would take as long as the rest of the test, and
#: those in between come from the same batches.
EVERY = 5


@dataclass(frozen=True)
class Readme:
    """The commands that were run, with what they have printed, and the folder of their files."""

    ran: list[tuple[Command, str]]
    folder: Path


@pytest.fixture(scope="module")
def readme(service: Settings, tmp_path_factory: pytest.TempPathFactory) -> Readme:
    clone = tmp_path_factory.mktemp("clone")
    ran = documented_runs.run_all("README.md", clone, environment_of(service, BUNDLED))
    return Readme(ran, clone / "my-run")


def test_the_commands_print_what_is_shown(readme: Readme) -> None:
    documented_runs.check(readme.ran)


def test_the_sample_is_rescored_whole_and_exactly(readme: Readme, tmp_path: Path) -> None:
    # Given the sample that the last command has re-scored
    command, printed = readme.ran[-1]
    assert command.text.startswith("rerankq rescore ")
    output = readme.folder / "reranked.trec"

    # Then every pair of the input is there once
    before, after = read_run(SAMPLE / "bm25.trec"), read_run(output)
    assert Counter(line[:2] for line in after) == Counter(line[:2] for line in before)
    # And the queries are in the order of the input, ranks from 1, scores non-increasing
    assert list(dict.fromkeys(line[0] for line in after)) == list(
        dict.fromkeys(line[0] for line in before)
    )
    for query in {line[0] for line in after}:
        of_query = [line for line in after if line[0] == query]
        assert [line[2] for line in of_query] == list(range(1, len(of_query) + 1))
        assert [line[3] for line in of_query] == sorted((s[3] for s in of_query), reverse=True)
    assert {line[4] for line in after} == {"rerankq-bundled"}

    # And the scores are those of sentence-transformers, in each of the job's batches
    scores = {(query, document): score for query, document, _, score, _ in after}
    queries, documents = texts(SAMPLE / "queries.jsonl"), texts(SAMPLE / "corpus.jsonl")
    pairs = list(scores)[::EVERY]
    expected = predicted(
        [(queries[query], documents[document]) for query, document in pairs], tmp_path
    )
    worst = max(abs(scores[pair] - each) for pair, each in zip(pairs, expected, strict=True))
    assert worst < 1e-4

    # And the measures before and after are printed
    assert "first stage   0.6151" in printed
    assert "reranked" in printed
    # And nothing else is left
    given = {path.name for path in SAMPLE.iterdir()}
    assert {path.name for path in readme.folder.iterdir()} == given | {output.name}


def predicted(pairs: list[tuple[str, str]], folder: Path) -> list[float]:
    """Return the scores of sentence-transformers, from a process like other tests' workers."""
    file = folder / "pairs.json"
    file.write_text(json.dumps(pairs))
    done = processes.run(
        "tests.acceptance.predicted",
        str(file),
        environment={},
        folder=ROOT,
        libraries=processes.MODEL_LIBRARIES,
    )
    assert done.returncode == 0, done.stderr
    scores: list[float] = json.loads(done.stdout)
    return scores


def texts(path: Path) -> dict[str, str]:
    return {line["_id"]: line["text"] for line in map(json.loads, path.read_text().splitlines())}
