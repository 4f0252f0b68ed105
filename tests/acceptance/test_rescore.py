"""A run is reranked: errors in the input are reported, and failures are counted."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest

from contract.settings import Settings
from producer.client.blocking import RerankClient
from tests.acceptance.conftest import SAMPLE, environment_of
from tests.acceptance.trec_runs import read_run
from tests.command_line import rerankq
from tests.processes import celery, rerankq_process, wait_until

PACKAGES = (
    *("--corpus", str(SAMPLE / "corpus.jsonl")),
    *("--queries", str(SAMPLE / "queries.jsonl")),
    *("--run", str(SAMPLE / "bm25.trec")),
)


@pytest.fixture
def environment(stub_service: Settings) -> dict[str, str]:
    return environment_of(stub_service)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return two queries and three documents, one of them empty."""
    folder = tmp_path_factory.mktemp("small")
    files = {
        "corpus": (
            '{"_id": "d1", "title": "Tags", "text": "edit tags of mp3 files"}\n'
            '{"_id": "d2", "title": "", "text": "a game of chess"}\n'
            '{"_id": "d3", "title": "", "text": ""}\n'
        ),
        "queries": '{"_id": "q1", "text": "mp3 tags"}\n{"_id": "q2", "text": "chess"}\n',
        "run": (
            "q2 Q0 d1 1 3.0 bm25\nq1\tQ0\td2\t1\t2.5\tbm25\n"
            "q1  Q0  d1  2  2.0  bm25\nq1 Q0 d3 3 1.0 bm25\n"
        ),
        "qrels": "query-id\tcorpus-id\tscore\nq1\td1\t1\nq2\td2\t1\n",
    }
    paths = {}
    for name, text in files.items():
        paths[name] = folder / name
        paths[name].write_text(text)
    return paths


def inputs(files: dict[str, Path], **others: str) -> tuple[str, ...]:
    named = {name: str(path) for name, path in files.items() if name != "qrels"} | others
    return tuple(part for name, value in named.items() for part in (f"--{name}", value))


def test_depth_and_top_k_cut_what_goes_in_and_what_comes_out(
    environment: dict[str, str], tmp_path: Path
) -> None:
    output = tmp_path / "out.trec"

    done = rerankq(
        *("rescore", *PACKAGES, "--output", str(output), "--depth", "10", "--top-k", "3"),
        *("--pairs-per-job", "35", "--window", "2", "--qrels", str(SAMPLE / "qrels.tsv")),
        environment=environment,
    )

    assert done.returncode == 0, done.stderr
    assert "500 pairs" in done.stderr
    assert "first stage, best 10 " in done.stderr
    assert Counter(line[0] for line in read_run(output)) == {f"q{n:02}": 3 for n in range(1, 51)}


def test_the_run_can_come_from_and_go_to_a_pipe(
    environment: dict[str, str], small: dict[str, Path]
) -> None:
    done = rerankq_process(
        *("rescore", *inputs(small, run="-"), "--output", "-"),
        environment=environment,
        standard_input=small["run"].read_text(),
    )

    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [line[0] for line in lines] == ["q2", "q1", "q1", "q1"]
    assert lines[1][2] == "d1"


def test_gzipped_tsv_and_crlf_are_read_as_they_are(
    environment: dict[str, str], small: dict[str, Path], tmp_path: Path
) -> None:
    queries = tmp_path / "queries.tsv"
    queries.write_bytes(b"q1\tmp3 tags\r\nq2\tchess\r\n")
    corpus = tmp_path / "corpus.jsonl.gz"
    corpus.write_bytes(gzip.compress(small["corpus"].read_bytes()))

    done = rerankq(
        *("rescore", *inputs(small, queries=str(queries), corpus=str(corpus)), "--output", "-"),
        environment=environment,
    )

    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 4


@pytest.mark.parametrize(
    "line",
    [
        {
            "query_id": "q1",
            "query": "mp3 tags",
            "candidates": [
                {"id": "d2", "text": "a game of chess", "score": 1.5},
                {"id": "d1", "text": "edit tags of mp3 files"},
            ],
        },
        {
            "query": {"qid": 1, "text": "mp3 tags"},
            "candidates": [
                {"docid": "d2", "score": 1.5, "doc": {"contents": "a game of chess"}},
                {"docid": "d1", "score": 1.2, "doc": {"title": "", "text": "edit mp3 tags"}},
            ],
        },
    ],
    ids=["ours", "rank_llm"],
)
def test_self_contained_lines_are_read(
    environment: dict[str, str], tmp_path: Path, line: dict[str, object]
) -> None:
    file = tmp_path / "requests.jsonl"
    file.write_text(json.dumps(line) + "\n")

    done = rerankq("rescore", "--input", str(file), "--output", "-", environment=environment)

    assert done.returncode == 0, done.stderr
    assert [row.split()[2] for row in done.stdout.splitlines()] == ["d1", "d2"]


def test_a_dry_run_reads_and_checks_and_sends_nothing(small: dict[str, Path]) -> None:
    nobody = {"RERANKQ_REDIS_URL": "redis://127.0.0.1:1/0"}

    done = rerankq("rescore", *inputs(small), "--dry-run", environment=nobody)

    assert (done.returncode, done.stderr) == (0, "2 queries, 4 pairs, 3 documents\n")


BAD_FILES = [
    ("corpus", '{"_id": "d1", "text": "x"}\n{"_id": ', "corpus:2:"),
    ("corpus", '{"_id": "d1", "text": "x"}\n{"_id": "d1", "text": "y"}\n', "corpus:2:"),
    ("corpus", '{"_id": "d1", "text": "x"}\n', "2 documents not in"),
    ("corpus", "", "empty"),
    ("corpus", "\0\1\2", "corpus:1:"),
    ("queries", '{"_id": "q1", "text": "x"}\n', "1 query not in"),
    ("queries", '{"_id": "q1", "text": "x"}\n{"_id": "q1", "text": "y"}\n', "queries:2:"),
    ("run", "q1 Q0 d1 1 nan bm25\n", "run:1:"),
    ("run", "q1 Q0 d1 1 2.0 bm25\nq1 Q0 d1 2 1.0 bm25\n", "run:2:"),
    ("run", "q1 Q0 d1\n", "run:1:"),
    ("qrels", "q1\td1\tx\nq1\td2\ty\n", "qrels:1:"),
]


@pytest.mark.parametrize(("name", "text", "said"), BAD_FILES)
def test_a_bad_file_is_one_line_of_error_and_no_output(
    environment: dict[str, str],
    small: dict[str, Path],
    tmp_path: Path,
    name: str,
    text: str,
    said: str,
) -> None:
    bad = tmp_path / name
    bad.write_text(text)
    files = {**small, name: bad}
    output = tmp_path / "out.trec"

    done = rerankq(
        *("rescore", *inputs(files), "--qrels", str(files["qrels"]), "--output", str(output)),
        environment=environment,
    )

    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert said in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == [name]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--output", "out.trec"),
        ("--input", "-", "--run", "-", "--output", "out.trec"),
        ("--corpus", "-", "--queries", "-", "--run", "r", "--output", "out.trec"),
        ("--input", "-", "--output", "/no/such/folder/out.trec"),
        ("--input", "-", "--output", "/"),
        ("--input", "-"),
        ("--input", "-", "--output", "-", "--results", "-"),
        ("--input", "-", "--output", "-", "--restart"),
        ("--input", "-", "--output", "-", "--retry-failed"),
        ("--input", "-", "--output", "/dev/stdout", "--rescore-downgraded"),
        ("--input", "-", "--output", "o", "--restart", "--retry-failed"),
        ("--input", "-", "--output", "-", "--qrels", "-"),
        ("--input", "-", "--output", "q.tsv", "--qrels", "q.tsv"),
    ],
)
def test_options_that_do_not_go_together_are_refused(arguments: tuple[str, ...]) -> None:
    done = rerankq("rescore", *arguments, environment={}, standard_input="")

    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


def test_invalid_lines_can_be_skipped_and_are_counted(
    environment: dict[str, str], small: dict[str, Path], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    run.write_text(small["run"].read_text() + "q1 Q0 d9 4 0.5 bm25\nnonsense\n")

    done = rerankq(
        *("rescore", *inputs(small, run=str(run)), "--output", "-", "--skip-invalid"),
        environment=environment,
    )

    assert done.returncode == 0, done.stderr
    assert "skipped 2 invalid lines" in done.stderr
    assert len(done.stdout.splitlines()) == 4


def test_queries_that_fail_are_reported_the_others_written_and_can_be_retried(
    settings: Settings,
    small: dict[str, Path],
    environment: dict[str, str],
    tmp_path: Path,
) -> None:
    # Given a worker that accepts shorter texts than the producer, and one long document
    strict = environment_of(settings)
    corpus = tmp_path / "corpus"
    long = json.dumps({"_id": "d2", "title": "", "text": "chess " * 1000})
    lines = small["corpus"].read_text().splitlines()
    corpus.write_text("\n".join([lines[0], long, lines[2]]) + "\n")
    arguments = ("worker", "--concurrency", "1", "-n", settings.namespace)
    limited = strict | {"RERANKQ_MAX_TEXT_CHARS": "1000"}
    with celery(*arguments, log=tmp_path / "log", environment=limited) as process:
        with RerankClient(settings) as client:
            wait_until(lambda: bool(client.workers(0.5, at_most=1)), "a worker answers")

        # When the run is re-scored, one query per job
        output, results = tmp_path / "out.trec", tmp_path / "out.jsonl"
        command = [
            *("rescore", *inputs(small, corpus=str(corpus)), "--pairs-per-job", "1"),
            *("--output", str(output), "--results", str(results)),
        ]
        done = rerankq(*command, environment=strict)
        assert process.poll() is None

    # Then it is a partial success, and the reason is reported for the failed query
    assert done.returncode == 3, done.stderr
    assert "limit_exceeded" in done.stderr
    assert [line[0] for line in read_run(output)] == ["q2"]
    failed = [json.loads(line) for line in results.read_text().splitlines() if "error" in line]
    assert [line["query_id"] for line in failed] == ["q1"]
    assert "to score 1 failed query again, run the same command with --retry" in done.stderr

    # And the same command writes the same output again, without a worker
    written = results.read_bytes()
    output.unlink()
    again = rerankq(*command, environment=strict)
    assert again.returncode == 3, again.stderr
    assert results.read_bytes() == written
    assert [line[0] for line in read_run(output)] == ["q2"]

    # And where it can be scored, it alone is retried
    retried = rerankq(*command, "--retry-failed", environment=environment)
    assert retried.returncode == 0, retried.stderr
    assert "scored 3 pairs" in retried.stderr
    assert {line[0] for line in read_run(output)} == {"q1", "q2"}
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("corpus", "log", "out.jsonl", "out.trec")
    ]


def test_without_a_worker_nothing_is_sent(settings: Settings, small: dict[str, Path]) -> None:
    done = rerankq(
        *("rescore", *inputs(small), "--output", "-", "--worker-wait", "1"),
        environment=environment_of(settings),
    )

    assert (done.returncode, done.stdout) == (5, "")
    assert "no worker answers" in done.stderr
    with RerankClient(settings) as client:
        assert client.status().queue_depth == 0
