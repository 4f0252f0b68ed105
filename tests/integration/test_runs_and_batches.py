"""Runs and batches are listed with their progress, and read while they go on."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from click.testing import CliRunner, Result

from contract.batches import RunProgress, RunState
from contract.settings import Settings
from contract.store import runs
from contract.store.operation import Schema
from producer.cli import batch_report, main
from producer.client.blocking import RerankClient
from producer.client.columns import ColumnsClient
from producer.rescore.progress import Progress
from producer.rescore.run_registration import NOTE_EVERY_S, registered
from tests.integration.rescore_runs import QUERIES, interrupt_after, resumed, session
from tests.integration.sample_records import request, result_of_job
from tests.integration.stand_ins import StandInWorker, answering_worker

PAIRS = 2 * QUERIES


@pytest.fixture
def environment(settings: Settings) -> dict[str, str]:
    return {
        "RERANKQ_REDIS_URL": settings.redis_url.get_secret_value(),
        "RERANKQ_NAMESPACE": settings.namespace,
    }


def rerankq(environment: dict[str, str], *arguments: str) -> Result:
    done = CliRunner(env=environment).invoke(main, arguments)
    assert done.exit_code == 0, done.output
    return done


def listed(environment: dict[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(rerankq(environment, "status", "--batches", "--json").stdout)
    return found


def test_a_run_is_listed_with_its_progress_while_it_works_and_after(
    settings: Settings, environment: dict[str, str], tmp_path: Path
) -> None:
    source, output = tmp_path / "in.jsonl", tmp_path / "out.trec"
    with resumed(tmp_path):
        pass  # writes the input
    arguments = ("rescore", "--input", str(source), "--output", str(output))
    with answering_worker(settings), StandInWorker(settings, result_of_job):
        done = rerankq(environment, *arguments, "--window", "3", "--pairs-per-job", "1")
    assert "12 queries" in done.stderr

    (run,) = listed(environment)["runs"]
    assert (run["label"], run["state"]) == ("out.trec", "done")
    assert (run["queries"], run["pairs"], run["done_pairs"]) == (QUERIES, PAIRS, PAIRS)
    assert run["started_at"] <= run["updated_at"] <= time.time() + 1
    assert run["pairs_per_s"] > 0
    assert run["left_s"] is None


def test_the_progress_of_a_run_is_stored_at_most_once_a_second(
    settings: Settings, client: redis.Redis, tmp_path: Path
) -> None:
    schema = Schema(settings)

    def stored() -> RunProgress:
        with RerankClient(settings) as reranker:
            (found,) = reranker.runs()
        return found

    def work(report: Callable[[Progress], None], run_id: str) -> None:
        # It is listed at once, and later reports within the same second are only shown
        report(Progress(pairs=20))
        now = stored()
        assert (now.state, now.done_pairs) == (RunState.RUNNING, 10)
        time.sleep(NOTE_EVERY_S)
        report(Progress(pairs=30, queries=3))
        now = stored()
        assert (now.done_pairs, now.queries) == (30, 3)
        assert now.pairs_per_s is not None
        assert 0 < now.pairs_per_s <= 20
        assert now.left_s == pytest.approx(70 / now.pairs_per_s)
        # When its process is silent, then it was killed
        at = time.time() - runs.SILENT_S - 1
        client.hset(schema.keys.run(run_id), "updated_at", str(at))
        assert (stored().state, stored().left_s) == (RunState.INTERRUPTED, None)
        raise KeyboardInterrupt

    shown: list[Progress] = []
    with ColumnsClient(settings) as reranker, resumed(tmp_path) as journal:
        registering = registered(reranker, journal, 100, Progress(pairs=10), shown.append)
        with pytest.raises(KeyboardInterrupt), registering as report:
            work(report, journal.run_id)
        # An error or Ctrl-C stops it, and the next start continues the same run
        assert [each.pairs for each in shown] == [20, 30]
        assert (stored().state, stored().done_pairs) == (RunState.STOPPED, 30)
        with registered(reranker, journal, 100, Progress(pairs=30), shown.append):
            assert stored().state is RunState.RUNNING
    assert client.ttl(schema.keys.run(journal.run_id)) > 0


def test_a_run_goes_on_if_it_may_not_be_listed(
    settings: Settings, client: redis.Redis, tmp_path: Path
) -> None:
    # Given a key that cannot hold the list
    client.set(Schema(settings).keys.runs, "not a list", ex=60)

    with ColumnsClient(settings) as reranker, resumed(tmp_path) as journal:
        shown: list[Progress] = []
        with registered(reranker, journal, 100, Progress(), shown.append) as report:
            report(Progress(pairs=1))
    assert [each.pairs for each in shown] == [1]


def test_a_record_of_a_later_version_is_read_as_far_as_it_is_known(
    settings: Settings, client: redis.Redis
) -> None:
    keys = Schema(settings).keys
    run = {"run_id": "a", "label": "out", "host": "h", "pid": 1, "state": "running", "new": 1}
    counts = {"queries": 1, "failed_queries": 0, "pairs": 2, "done_pairs": 1}
    known = {**run, **counts, "pairs_per_s": None, "left_s": None}
    now = time.time()
    for run_id, body in (("a", known), ("b", {**known, "run_id": "b", "state": "dreaming"})):
        fields = {"progress": json.dumps(body), "started_at": str(now), "updated_at": str(now)}
        for name, value in fields.items():
            client.hset(keys.run(run_id), name, value)
        client.zadd(keys.runs, {run_id: now})
        for key in (keys.run(run_id), keys.runs):
            client.expire(key, 60)

    with RerankClient(settings) as reranker:
        assert [each.run_id for each in reranker.runs()] == ["a"]


def test_the_command_lists_batches_and_shows_one(
    settings: Settings, environment: dict[str, str]
) -> None:
    assert rerankq(environment, "status", "--batches").stderr == "no runs and no batches\n"
    with RerankClient(settings) as reranker:
        requests = [request(query_id=str(place)) for place in range(4)]
        batch = reranker.submit_many(requests, batch_id="night", label="news", pairs_per_job=4)
        with StandInWorker(settings, result_of_job, at_most=1):
            next(batch.as_completed(10))

        lines = rerankq(environment, "status", "--batches").stdout.splitlines()
        assert lines[0].split()[:3] == ["id", "name", "state"]
        assert lines[-1].split()[:6] == ["night", "news", "running", "2/4", "0", "4/8"]
        shown = rerankq(environment, "status", "night").stdout
        assert "2 (1 waiting, 1 done)" in shown
        assert "4/8" in shown

        rerankq(environment, "cancel", "night")
        (found,) = listed(environment)["batches"]
        assert (found["state"], found["done"], found["cancelled"]) == ("cancelled", 1, 1)


@pytest.mark.parametrize("option", ["--batches", "--watch"])
def test_an_id_is_refused_with_an_option_for_all(option: str) -> None:
    done = CliRunner().invoke(main, ["status", "night", option])

    assert done.exit_code == 2
    assert f"{option} cannot be combined with a job id" in done.stderr


def test_times_are_shown_in_their_two_largest_units() -> None:
    shown = [batch_report.duration(each) for each in (0.4, 59, 60, 3_700, 90_000, 700_000)]

    assert shown == ["0 s", "59 s", "1 min 0 s", "1 h 1 min", "1 d 1 h", "8 d 2 h"]


def test_finished_queries_are_read_while_a_run_goes_on(
    settings: Settings, environment: dict[str, str], tmp_path: Path
) -> None:
    output = str(tmp_path / "out")

    # Given a run that is interrupted in the middle, so that its journal is there
    with (
        ColumnsClient(settings) as reranker,
        StandInWorker(settings, result_of_job),
        pytest.raises(KeyboardInterrupt),
    ):
        session(reranker, tmp_path, interrupt_after(5))
    journal = tmp_path / "out.partial.jsonl"
    written = journal.read_bytes()
    assert written.count(b"\n") >= 5

    # When a line is being written, and a query was scored again
    first = written.splitlines(keepends=True)[0]
    journal.write_bytes(written + first + b'{"query_id": "q9", "ids"')

    # Then the other queries are printed, each once
    printed = rerankq(environment, "partial", output).stdout.splitlines()
    found = [json.loads(each)["query_id"] for each in printed]
    assert len(found) == len(set(found)) == written.count(b"\n")
    assert found[-1] == json.loads(first)["query_id"]
    run = rerankq(environment, "partial", output, "--format", "trec").stdout.splitlines()
    assert [each.split()[0] for each in run] == found

    # And there is an error of one line if there is nothing to read, or if it is damaged
    for content, message in ((b"x\n", "damaged at byte 0"), (None, "no run has begun")):
        journal.write_bytes(content) if content else journal.unlink()
        done = CliRunner(env=environment).invoke(main, ["partial", output])
        assert done.exit_code == 2
        assert message in done.stderr
