"""One command serves the page and the searches, with real models; stopping it ends everything."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

from examples.search.__main__ import main
from examples.search.collection import Collection
from producer.cli.loopback import free_port, is_healthy
from tests.processes import MODEL_LIBRARIES, Process, end, environment, start, wait_until
from tests.search_app import QUERY, post, seconds
from tests.web import fetch


@dataclass
class Running:
    """The command, its address, its log and the time that its first request took."""

    process: Process
    url: str
    log: Path
    first_s: float


@pytest.fixture(scope="module")
def running(collection: Collection, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("command")
    log, port = folder / "log", free_port()
    options = ("--port", str(port), "--collection", str(collection.folder))
    with log.open("wb") as output:
        process = start(
            "examples.search",
            *options,
            environment=environment(
                SEARCH_MILVUS_URI=str(folder / "new" / "milvus.db"),
                SEARCH_RERANK_TIMEOUT_S="60",
                RERANKQ_THREADS="1",
                RERANKQ_MAX_BATCH_TOKENS="2048",
                RERANKQ_MAX_LENGTH="128",
            ),
            log=output,
            libraries=MODEL_LIBRARIES,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(
            lambda: process.poll() is not None or is_healthy(f"{url}/queries"),
            "the application answers",
        )
        assert process.poll() is None, log.read_text()
        yield Running(process, url, log, seconds(f"{url}/search", {"query": QUERY}))
    finally:
        end(process)


def test_the_first_request_finds_the_models_loaded(running: Running) -> None:
    later = [seconds(f"{running.url}/search", {"query": QUERY}) for _ in range(5)]
    before, started, after = running.log.read_text().partition("Application startup complete")
    assert started
    assert "Loading" in before
    assert "Loading" not in after
    # Loading takes several seconds. A busy machine delays any request by less.
    assert running.first_s <= 2 * max(later) + 0.5, (running.first_s, later)


def test_sentences_are_found_by_their_meaning_and_reranked(running: Running) -> None:
    found = post(f"{running.url}/search", {"query": "glue some PDFs together", "compare": True})
    assert found["reranked"] is True
    assert found["model"] == "bundled"
    assert len(found["results"]) == len(found["vector_results"]) == 10
    texts = [each["chunk"]["text"] for each in found["vector_results"]]
    assert "pdf" in texts[0].lower()
    scores = [each["vector_score"] for each in found["vector_results"]]
    assert 1 > scores[0] > scores[-1] > 0


@pytest.mark.parametrize(
    ("options", "variables", "message"),
    [
        (("--rerank-with", "nothing"), {}, "'--rerank-with'"),
        (("--collection", "nowhere"), {}, "'--collection'"),
        (("--collection", "."), {}, "there is no corpus.jsonl in ."),
        ((), {"SEARCH_RERANK_TIMEOUT_S": "0"}, "rerank_timeout_s: must be greater than 0"),
        ((), {"SEARCH_RERANK_WITH": "nothing"}, "rerank_with: must be 'in-process' or 'queue'"),
        ((), {"VECTOR_TOP_K": "many"}, "vector_top_k: must be a whole number"),
    ],
)
def test_a_setting_that_is_wrong_is_named(
    options: tuple[str, ...], variables: dict[str, str], message: str
) -> None:
    answer = CliRunner().invoke(main, options, env=variables)
    assert answer.exit_code == 2
    assert message in answer.output


def test_the_page_is_served(running: Running) -> None:
    assert "Search with reranking" in fetch(f"{running.url}/")


def test_what_runs_is_said_at_the_start(running: Running) -> None:
    log = running.log.read_text()
    assert "embeddings  sentence-transformers/all-MiniLM-L6-v2" in log
    assert "reranker    bundled, in-process" in log
    assert f"Uvicorn running on {running.url}" in log
    assert "Traceback" not in log


def test_it_ends_when_it_is_told_to(running: Running) -> None:
    assert end(running.process) in (0, -15)
    assert "Application shutdown complete" in running.log.read_text()
    assert "Traceback" not in running.log.read_text()
