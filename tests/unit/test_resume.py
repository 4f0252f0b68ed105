"""A run that was killed is continued from whatever it left, or the reason why not is reported."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from contract import jobs
from contract.errors import (
    InvalidInput,
    JobConflict,
    LimitExceeded,
    ModelNotAllowed,
    NoWorker,
    RedisUnavailable,
    RerankError,
)
from contract.settings import Settings
from producer.formats.records import InvalidLines
from producer.rescore import journal_lines
from producer.rescore.manifest import Manifest, Round, ScoringSettings
from producer.rescore.options import RetryKind
from producer.rescore.resume import ResumableJournal
from producer.rescore.staging import Staging
from tests.unit.test_journal import FAILURE, ranking, result

QUERIES = 5
FAILED: tuple[RetryKind, ...] = ("failed",)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder / "out.trec"


@contextmanager
def resumed(
    output: Path, *, restart: bool = False, pairs_per_job: int = 2, top_k: int | None = None
) -> Iterator[ResumableJournal]:
    """Return the journal of a run over the queries q0, q1 and so on, with two documents each."""
    source = output.parent.parent / "in.jsonl"
    candidates = [{"id": "d0", "text": "t"}, {"id": "d1", "text": "u"}]
    lines = (
        json.dumps({"query_id": f"q{n}", "query": "q", "candidates": candidates})
        for n in range(QUERIES)
    )
    source.write_text("\n".join(lines))
    asked = ScoringSettings(model=None, depth=None, top_k=top_k, allow_downgrade=True)
    with Staging(Settings.load(), InvalidLines()) as staging:
        staging.load_requests(str(source))
        wanted = Manifest.new(staging.inputs(), asked, pairs_per_job)
        with ResumableJournal(str(output), staging, wanted, restart=restart) as journal:
            yield journal


def scored(query: int, *, score: float = 1.0, downgraded: bool = False) -> jobs.JobResult:
    made = result(ranking(f"q{query}", [score, 0.5]))
    if not downgraded:
        return made
    source = made.provenance.model_copy(update={"model": "smaller", "downgraded": True})
    return made.model_copy(update={"provenance": source})


def counted(journal: ResumableJournal) -> dict[str, Any]:
    """Return the valid line of each query: its best score, or the code of its failure."""
    return {
        line["query_id"]: journal_lines.scores(line)[0][1]
        if journal_lines.has_ranking(line)
        else line["error"]["code"]
        for line in journal.lines()
    }


def names(output: Path) -> list[str]:
    return sorted(each.name for each in output.parent.iterdir())


def journal_of(output: Path) -> Path:
    return Path(f"{output}.partial.jsonl")


def begun(output: Path, *results: jobs.JobResult, failed: tuple[str, ...] = ()) -> None:
    """Return the journal of a run that was killed after these results."""
    with resumed(output) as journal:
        journal.begin()
        for each in results:
            journal.add_result(each)
        if failed:
            journal.add_failure(list(failed), FAILURE)


def test_a_run_goes_on_where_it_was_killed(output: Path) -> None:
    begun(output, scored(3), failed=("q1",))

    with resumed(output) as journal:
        assert journal.resumed
        assert journal.pending == 3
        assert journal.are_done(["q1", "q3"])
        assert not journal.are_done(["q3", "q2"])
        journal.add_result(scored(0))
        assert counted(journal) == {"q0": 1.0, "q1": "bad_scores", "q3": 1.0}


def test_the_manifest_notes_how_many_tokens_each_model_reads(output: Path) -> None:
    begun(output, scored(3), scored(2, downgraded=True))
    manifest = json.loads(Path(f"{output}.manifest.json").read_text())
    assert manifest["max_lengths"] == {"maker/model": 512, "smaller": 512}

    # Even when the lines that recorded it are lost
    journal_of(output).write_bytes(b"")
    with resumed(output) as journal:
        assert journal.max_lengths == {"maker/model": 512, "smaller": 512}


def test_the_manifest_notes_the_revision_of_each_model(output: Path) -> None:
    begun(output, of_revision("maker/model@v1", "aaa"), of_revision("smaller", "bbb"))
    expected = {"maker/model": "aaa", "smaller": "bbb"}
    manifest = json.loads(Path(f"{output}.manifest.json").read_text())
    assert manifest["revisions"] == expected

    # Even when the lines that recorded it are lost
    journal_of(output).write_bytes(b"")
    with resumed(output) as journal:
        assert journal.revisions == expected


def test_a_run_of_an_old_version_without_revisions_goes_on(output: Path) -> None:
    begun(output, scored(3))
    path, lines = Path(f"{output}.manifest.json"), journal_of(output)
    manifest = json.loads(path.read_text())
    del manifest["revisions"]
    path.write_text(json.dumps(manifest))
    line = json.loads(lines.read_text())
    del line["provenance"]["revision"]
    lines.write_text(json.dumps(line) + "\n")

    with resumed(output) as journal:
        assert journal.are_done(["q3"])
        journal.add_result(of_revision("maker/model", "aaa"))
        assert journal.revisions == {"maker/model": "aaa"}


def of_revision(model: str, revision: str) -> jobs.JobResult:
    made = result(ranking("q0", [1.0]), model=model)
    source = made.provenance.model_copy(update={"revision": revision})
    return made.model_copy(update={"provenance": source})


def test_the_tally_is_that_of_both_sessions(output: Path) -> None:
    cut = result(ranking("q0", [1.0, 0.0]).model_copy(update={"truncated": 2}))
    begun(output, cut, scored(2, downgraded=True), failed=("q1", "q4"))

    with resumed(output) as journal:
        journal.add_result(scored(3))
        progress = journal.progress()

    assert (progress.queries, progress.pairs) == (3, 6)
    assert (progress.failed_queries, progress.failed_pairs, progress.done_pairs) == (2, 4, 10)
    assert (progress.truncated, progress.downgraded_queries) == (2, 1)
    assert progress.models == {"maker/model": 2, "smaller": 1}
    assert progress.codes == {"bad_scores": 2}
    assert progress.first_failure == "NaN: ü"


def test_wherever_a_run_is_killed_each_whole_line_counts_and_no_other(output: Path) -> None:
    # Given the journal of a run
    begun(output, *(scored(n, score=float(n + 1)) for n in (2, 0, 1)), failed=("q4",))
    whole = journal_of(output).read_bytes()
    order = ["q2", "q0", "q1", "q4"]

    # When it ends at any byte
    for size in range(0, len(whole) + 1, 7):
        journal_of(output).write_bytes(whole[:size])
        with resumed(output) as journal:
            found = set(counted(journal))

        # Then the whole lines are found, and what was torn is gone
        lines = whole[:size].count(b"\n")
        assert found == set(order[:lines])
        kept = journal_of(output).read_bytes()
        assert kept == b"".join(whole.splitlines(keepends=True)[:lines])


def test_what_is_appended_after_a_torn_line_is_a_line_of_its_own(output: Path) -> None:
    begun(output, scored(0), scored(1))
    with journal_of(output).open("ab") as file:
        file.write(b'{"query_id": "q2", "docu')

    with resumed(output) as journal:
        journal.add_result(scored(2))
    with resumed(output) as journal:
        assert sorted(counted(journal)) == ["q0", "q1", "q2"]


def test_a_later_line_takes_the_place_of_an_earlier_one_but_a_failure_of_no_ranking(
    output: Path,
) -> None:
    begun(output, scored(0, score=2.0), failed=("q1",))
    with resumed(output) as journal:
        journal.add_result(scored(0, score=3.0))
        journal.add_result(scored(1))
        journal.add_failure(["q0", "q2"], FAILURE)
        expected = {"q0": 3.0, "q1": 1.0, "q2": "bad_scores"}
        assert counted(journal) == expected
    with resumed(output) as journal:
        assert counted(journal) == expected
        assert (journal.progress().queries, journal.progress().failed_queries) == (2, 1)


def test_a_line_of_a_query_that_is_not_in_the_input_is_passed_over(output: Path) -> None:
    begun(output, scored(0), scored(77))
    with resumed(output) as journal:
        assert counted(journal) == {"q0": 1.0}
        assert (journal.pending, journal.progress().queries) == (4, 1)


@pytest.mark.parametrize("damage", [b"\0\0\0\n", b"[]\n", b'{"query_id": 1}\n', b"{}\n"])
def test_a_damaged_journal_is_refused_with_the_place_and_the_way_out(
    output: Path, damage: bytes
) -> None:
    begun(output, scored(0))
    size = journal_of(output).stat().st_size
    with journal_of(output).open("ab") as file:
        file.write(damage)
    with (
        pytest.raises(InvalidInput, match=rf": damaged at byte {size}; pass --restart"),
        resumed(output),
    ):
        pass


def test_another_setting_is_refused_and_nothing_is_lost(output: Path) -> None:
    begun(output, scored(0))
    before = journal_of(output).read_bytes()
    with (
        pytest.raises(InvalidInput, match=r"--top-k \(not given -> 1\)"),
        resumed(output, top_k=1),
    ):
        pass
    assert journal_of(output).read_bytes() == before
    with resumed(output) as journal:
        assert counted(journal) == {"q0": 1.0}


def test_another_job_size_is_that_of_the_beginning(output: Path) -> None:
    begun(output, scored(0))
    with resumed(output, pairs_per_job=50) as journal:
        assert journal.manifest.pairs_per_job == 2


def test_a_journal_of_an_earlier_version_goes_on_with_the_same_files(output: Path) -> None:
    begun(output, scored(0), scored(1), failed=("q2",))
    of_earlier = b"".join(
        journal_lines.result_line(json.loads(line))
        for line in journal_of(output).read_bytes().splitlines()
    )
    journal_of(output).write_bytes(of_earlier)
    with resumed(output) as journal:
        assert journal.resumed
        journal.add_result(scored(3))
        journal.write_results(str(output))
    lines = output.read_bytes()
    assert lines.startswith(of_earlier)
    assert [len(each["documents"]) for each in map(json.loads, lines.splitlines()[3:])] == [2]


def test_a_journal_without_its_manifest_is_refused_unless_it_is_empty(output: Path) -> None:
    journal_of(output).touch()
    with resumed(output) as journal:
        assert not journal.resumed
    journal_of(output).write_bytes(b'{"query_id": "q0", "documents": []}\n')
    with (
        pytest.raises(InvalidInput, match=r"whose out\.trec\.manifest\.json is missing.*--restart"),
        resumed(output),
    ):
        pass


def test_a_restart_forgets_what_was_there_once_it_begins(output: Path) -> None:
    begun(output, scored(0))
    with resumed(output) as journal:
        run_id = journal.manifest.run_id
    with resumed(output, restart=True, top_k=1):
        pass
    with resumed(output) as journal:
        assert (journal.manifest.run_id, journal.pending) == (run_id, 4)

    said: list[str] = []
    with resumed(output, restart=True, top_k=1) as journal:
        journal.begin()
        journal.keep(said.append)
    assert said[0].endswith("; run the same command without --restart to continue")
    with resumed(output, top_k=1) as journal:
        assert journal.manifest.run_id != run_id
        assert journal.pending == QUERIES


def test_only_one_process_at_a_time_has_the_journal(output: Path) -> None:
    with resumed(output), pytest.raises(InvalidInput, match="another rerankq"), resumed(output):
        pass
    with resumed(output):
        pass


def test_if_nothing_was_sent_no_file_is_left(output: Path) -> None:
    said: list[str] = []
    with resumed(output) as journal:
        journal.keep(said.append)
    assert (said, names(output)) == ([], [])


def test_what_was_sent_is_taken_up_though_nothing_has_come_back(output: Path) -> None:
    said: list[str] = []
    with resumed(output) as journal:
        journal.begin()
        job_id = journal.job_id(["q0", "q1"])
        journal.keep(said.append)
    assert said == [
        f"partial results are in {journal_of(output)}; run the same command to continue"
    ]
    with resumed(output) as journal:
        assert journal.job_id(["q0", "q1"]) == job_id


@pytest.mark.parametrize(
    "error",
    [
        ModelNotAllowed("it would be refused again"),
        LimitExceeded("it would be refused again"),
        JobConflict("it would be refused again"),
    ],
    ids=lambda error: error.code,
)
def test_what_would_be_refused_again_is_not_advised(output: Path, error: InvalidInput) -> None:
    said: list[str] = []
    with resumed(output) as journal:
        journal.begin()
        journal.keep(said.append, error)
    assert said == [f"partial results are in {journal_of(output)}"]


@pytest.mark.parametrize(
    "error",
    [
        KeyboardInterrupt(),
        OSError("no space left"),
        RedisUnavailable("down"),
        NoWorker("none yet"),
        RerankError("scored by another model; start the workers with the first one"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_can_be_mended_is_continued_by_the_same_command(
    output: Path, error: BaseException
) -> None:
    said: list[str] = []
    with resumed(output) as journal:
        journal.begin()
        journal.keep(said.append, error)
    assert said[0].endswith("; run the same command to continue")


def test_a_finished_run_leaves_neither_journal_nor_manifest(output: Path) -> None:
    begun(output, *(scored(n) for n in range(QUERIES)))
    with resumed(output) as journal:
        assert list(journal.rounds(())) == []
        journal.remove()
    assert names(output) == []


def staged(journal: ResumableJournal) -> list[str]:
    """Return the queries of the round, whether they have ended or not."""
    return [each.id for each in journal.staged_queries()]


def rounds_of(journal: ResumableJournal, retry: tuple[RetryKind, ...]) -> list[list[str]]:
    """Return the queries that are scored in each round; all of them succeed."""
    rounds = []
    for _ in journal.rounds(retry):
        journal.begin()
        rounds.append([each for each in staged(journal) if not journal.are_done([each])])
        for each in rounds[-1]:
            journal.add_result(scored(int(each[1:]), score=9.0))
    return rounds


@pytest.mark.parametrize(
    ("retry", "again"),
    [
        (("failed",), ["q1", "q4"]),
        (("downgraded",), ["q2"]),
        (("failed", "downgraded"), ["q1", "q2", "q4"]),
    ],
)
def test_just_what_failed_or_was_downgraded_is_redone(
    output: Path, retry: tuple[RetryKind, ...], again: list[str]
) -> None:
    begun(output, scored(0), scored(3), scored(2, downgraded=True), failed=("q1", "q4"))
    with resumed(output) as journal:
        first = journal.job_id(["q1"])
        next(journal.rounds(retry))
        assert (staged(journal), journal.pending) == (again, len(again))
        assert journal.job_id(["q1"]) != first
        assert journal.progress().queries + journal.progress().failed_queries == QUERIES - len(
            again
        )


def test_an_interrupted_redo_is_taken_up_with_the_same_jobs_and_not_redone_once_more(
    output: Path,
) -> None:
    # Given a run with three failed queries, killed after one of them was retried
    begun(output, scored(0), scored(1), failed=("q2", "q3", "q4"))
    with resumed(output) as journal:
        next(journal.rounds(FAILED))
        journal.begin()
        job_ids = [journal.job_id([each]) for each in ("q2", "q3")]
        journal.add_failure(["q3"], FAILURE)

    # When the same command continues
    with resumed(output) as journal:
        assert [journal.job_id([each]) for each in ("q2", "q3")] == job_ids
        assert journal.are_done(["q3"])

        # Then it redoes the rest, packed as before
        assert staged(journal) == ["q2", "q3", "q4"]
        assert rounds_of(journal, FAILED) == [["q2", "q4"]]
        assert counted(journal)["q3"] == "bad_scores"

    # And what failed again is left to the next
    with resumed(output) as journal:
        assert rounds_of(journal, ()) == []
        assert rounds_of(journal, FAILED) == [["q3"]]
        assert counted(journal) == {"q0": 1.0, "q1": 1.0, "q2": 9.0, "q3": 9.0, "q4": 9.0}


def test_what_was_begun_comes_before_what_is_redone(output: Path) -> None:
    begun(output, scored(0), failed=("q1",))
    with resumed(output) as journal:
        assert rounds_of(journal, FAILED) == [["q2", "q3", "q4"], ["q1"]]
        assert journal.progress().failed_queries == 0


def test_with_nothing_to_redo_nothing_is_done(output: Path) -> None:
    begun(output, *(scored(n) for n in range(QUERIES)))
    with resumed(output) as journal:
        assert rounds_of(journal, ("failed", "downgraded")) == []
        assert journal.progress().queries == QUERIES


def test_without_a_run_there_is_nothing_to_redo(output: Path) -> None:
    with (
        resumed(output) as journal,
        pytest.raises(InvalidInput, match="no earlier run with queries"),
    ):
        next(journal.rounds(FAILED))


def test_a_journal_that_is_shorter_than_its_manifest_says_is_refused(output: Path) -> None:
    begun(output, scored(0), failed=("q1", "q2", "q3", "q4"))
    with resumed(output) as journal:
        next(journal.rounds(FAILED))
        journal.begin()
    journal_of(output).write_bytes(b"")
    with (
        pytest.raises(InvalidInput, match=r"shorter than recorded in .*manifest.json"),
        resumed(output),
    ):
        pass


@pytest.mark.parametrize("killed_before", ["truncate", "manifest", "journal"])
def test_a_finish_that_was_killed_is_taken_up(output: Path, killed_before: str) -> None:
    # Given a run that was redone, and killed while it removed its files
    begun(output, *(scored(n) for n in range(QUERIES - 1)), failed=("q4",))
    with resumed(output) as journal:
        rounds_of(journal, FAILED)
        manifest = journal.manifest.model_copy(update={"round": Round()})
        manifest.save(Path(f"{output}.manifest.json"))
    if killed_before != "truncate":
        journal_of(output).write_bytes(b"")
    if killed_before == "journal":
        Path(f"{output}.manifest.json").unlink()

    # Then everything that was lost is scored again, and nothing is left in the end
    lost = [] if killed_before == "truncate" else [[f"q{n}" for n in range(QUERIES)]]
    with resumed(output) as journal:
        assert rounds_of(journal, ()) == lost
        assert journal.progress().queries == QUERIES
        journal.remove()
    assert names(output) == []
