"""The simulation of many workers scores a run, and says what it cost."""

from __future__ import annotations

from benchmarks import simulation
from benchmarks.simulated_workers import Work


def test_simulated_workers_score_a_run_of_the_command() -> None:
    workers = [Work(2, 1_000.0), Work(1, 20_000.0)]
    figures, said = simulation.simulate(
        workers, 500, processes=1, options=["--pairs-per-job", "100", "--window", "3"]
    )
    assert (figures.pairs, figures.jobs) == (500, 5)
    assert figures.capacity_pairs_per_s == 22_000
    assert 0 < figures.redis_us < 1e6 * figures.scoring_s / figures.pairs
    assert figures.usage.commands > 50 * figures.jobs
    assert any("by simulated (5 queries)" in line for line in said)
    assert "| what limits it | " in figures.table()
