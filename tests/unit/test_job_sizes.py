"""The size of the jobs of a run follows the speed of its workers, and a resumed run repeats it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from contract.records import Provenance
from contract.settings import Settings
from producer.formats.records import InvalidLines
from producer.rescore.job_sizes import RESULTS, JobSizes
from producer.rescore.manifest import Manifest, ScoringSettings
from producer.rescore.options import Options
from producer.rescore.resume import ResumableJournal
from producer.rescore.staging import Staging
from producer.rescore.window import Window, WorkerCount

MILLION = Options(run_pairs=1_000_000)


def took(pairs: int, seconds: float) -> Provenance:
    return Provenance(
        model_requested="m",
        model="m",
        attempts=1,
        backend="stub",
        device="cpu",
        dtype="float32",
        max_length=512,
        pairs=pairs,
        unique_pairs=pairs,
        tokens=pairs,
        truncated=0,
        seconds=seconds,
    )


@dataclass
class Run:
    """A run that is started again and again; each query has 100 documents."""

    output: Path
    options: Options = MILLION
    largest: int = 5_000
    #: The processes of the workers.
    children: int = 4

    def start(self, jobs: int, *pairs_per_s: float, done: int = 0) -> list[tuple[int, int]]:
        """Make jobs, and let workers of these speeds score those that are not done."""
        source = self.output.with_suffix(".jsonl")
        source.write_text(
            '{"query_id": "q", "query": "q", "candidates": [{"id": "d", "text": "d"}]}'
        )
        asked = ScoringSettings(model=None, depth=None, top_k=None, allow_downgrade=True)
        made = []
        with Staging(Settings.load(), InvalidLines()) as staging:
            staging.load_requests(str(source))
            wanted = Manifest.new(staging.inputs(), asked, self.options.first_pairs_per_job)
            with ResumableJournal(str(self.output), staging, wanted) as journal:
                journal.begin()
                sizes = JobSizes(
                    journal, self.options, self.largest, Window(WorkerCount(dict, self.children))
                )
                place = 0
                for number in range(jobs):
                    pairs = sizes.next(place)
                    made.append((place, pairs))
                    place += max(1, pairs // 100)
                    if number >= done:
                        sizes.sending()
                        speed = pairs_per_s[number % len(pairs_per_s)]
                        sizes.observe(took(pairs, pairs / speed))
        return made


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path / "out")


@pytest.mark.parametrize(
    ("pairs_per_s", "pairs"),
    [
        pytest.param(20, 100, id="a slow model: the least"),
        pytest.param(300, 300, id="six layers on a core"),
        pytest.param(1_500, 1_000, id="not so far from the size at the start"),
        pytest.param(4_000, 4_000, id="a fast one"),
        pytest.param(90_000, 4_000, id="a GPU: near the most"),
    ],
)
def test_a_job_takes_a_process_about_a_second(run: Run, pairs_per_s: float, pairs: int) -> None:
    made = run.start(100, pairs_per_s)
    assert made[0] == (0, 1_000)
    assert made[-1][1] == pairs


@pytest.mark.parametrize(("pairs_per_s", "pairs"), [(20, 700), (90_000, 700)])
def test_a_size_that_was_asked_for_stays(run: Run, pairs_per_s: float, pairs: int) -> None:
    run.options = Options(pairs_per_job=pairs, run_pairs=1_000_000)
    assert {each for _, each in run.start(100, pairs_per_s)} == {pairs}


@pytest.mark.parametrize(("run_pairs", "pairs"), [(3_000, 100), (32_000, 2_000), (64_000, 4_000)])
def test_a_small_run_is_still_shared_among_the_workers(
    run: Run, run_pairs: int, pairs: int
) -> None:
    run.options = Options(run_pairs=run_pairs)
    assert run.start(60, 90_000)[-1][1] == pairs


def test_more_workers_have_smaller_jobs_of_the_same_run(run: Run) -> None:
    run.children = 500
    assert run.start(60, 90_000)[-1][1] == 1_000_000 // 2_000


def test_workers_of_different_speed_have_jobs_of_the_average_speed(run: Run) -> None:
    run.largest = 50_000
    # Both together score two jobs in the time that the slower one takes for a job.
    assert 1_900 / 2 < run.start(200, 20_000, 1_000)[-1][1] < 1_910 * 2


def test_an_interrupted_run_makes_the_same_jobs_again(run: Run) -> None:
    # Given a run whose jobs grew and then shrank, killed with jobs in flight
    first = run.start(40, 90_000)
    again = run.start(60, 500, done=40 - 8)
    assert again[:40] == first
    assert len({pairs for _, pairs in again}) > 2

    # When it is started again, with another number of workers that are fast
    run.children = 50
    third = run.start(80, 90_000, done=60 - 8)

    # Then all jobs that may be in flight are the same ones, and the size grows only after them
    assert third[:60] == again
    assert third[-1][1] > again[-1][1]


def test_few_results_do_not_change_the_size(run: Run) -> None:
    assert {pairs for _, pairs in run.start(RESULTS, 90_000)} == {1_000}
