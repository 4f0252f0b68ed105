"""`rerankq serve` as a process, with a real worker: the same scores, for many callers at once."""

from __future__ import annotations

import asyncio
import gc
import json
import signal
import socket
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import cohere
import httpx
import pytest

from contract.settings import Settings
from producer.cli.loopback import free_port
from producer.client.blocking import RerankClient
from producer.http.settings import HttpSettings
from tests import documented
from tests.acceptance.conftest import BUNDLED, environment_of
from tests.command_line import rerankq
from tests.integration.http.conftest import running
from tests.processes import end, ending_with_us, environment, program, wait_until

QUERY = "edit mp3 tags from the terminal"
DOCUMENTS = [f"a command line editor for ID3 tags, number {place}" for place in range(19)]
DOCUMENTS.append("a game with a blue hedgehog")
PAGE = "docs/guides/http.md"
#: The address of the service on that page.
ADDRESS = "http://127.0.0.1:8080"
#: Loaded in the process of a worker, and in no other.
MODEL_SIDE = {"torch", "transformers", "sentence_transformers", "numpy", "worker"}


@dataclass(frozen=True)
class Server:
    process: subprocess.Popen[bytes]
    url: str
    modules: Path
    log: Path


@contextmanager
def serving(settings: Settings, folder: Path) -> Iterator[Server]:
    """Run the server on a free port until the end of the block."""
    port = str(free_port())
    modules, log = folder / "modules.json", folder / "server.log"
    command = (sys.executable, "-m", "tests.acceptance.serving_process", modules, "--port", port)
    with log.open("wb") as output:
        process = subprocess.Popen(
            ending_with_us(*map(str, command)),
            env=environment(**environment_of(settings, BUNDLED)),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: answers(url) or process.poll() is not None, "the server answers")
        assert process.poll() is None, log.read_text()
        yield Server(process, url, modules, log)
        assert end(process) == 0, log.read_text()
        assert f"Listening on {url}" in log.read_text()
    finally:
        end(process)


def answers(url: str) -> bool:
    with suppress(httpx.TransportError):
        return httpx.get(f"{url}/readyz").status_code == 200
    return False


@pytest.fixture(scope="module")
def server(service: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(service, tmp_path_factory.mktemp("server")) as made:
        yield made


def test_cohere_s_client_gets_the_scores_of_the_client_of_the_queue(
    server: Server, client: RerankClient
) -> None:
    direct = client.rerank(QUERY, DOCUMENTS)

    with httpx.Client() as connections:
        over_http = cohere.ClientV2("any", base_url=server.url, httpx_client=connections)
        answer = over_http.rerank(model="default", query=QUERY, documents=DOCUMENTS)
    raw = httpx.post(
        f"{server.url}/rerank", json={"query": QUERY, "texts": DOCUMENTS, "raw_scores": True}
    ).json()

    assert [each.index for each in answer.results] == [each.index for each in direct.documents]
    for theirs, ours, logit in zip(answer.results, direct.documents, raw, strict=True):
        assert abs(theirs.relevance_score - ours.relevance) < 1e-9
        assert (logit["index"], abs(logit["score"] - ours.score) < 1e-9) == (ours.index, True)


def test_two_hundred_requests_at_once_are_all_answered_right(server: Server) -> None:
    async def ask(api: httpx.AsyncClient, place: int) -> tuple[int, float]:
        began = time.monotonic()
        documents = ["nothing"] * (place % 5) + ["edit mp3 tags"]
        answer = await api.post("/v2/rerank", json={"query": QUERY, "documents": documents})
        assert answer.status_code == 200, answer.text
        return answer.json()["results"][0]["index"], time.monotonic() - began

    async def ask_all() -> list[tuple[int, float]]:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=server.url, timeout=60, limits=limits) as api:
            return await asyncio.gather(*(ask(api, place) for place in range(200)))

    found = asyncio.run(ask_all())

    assert [index for index, _ in found] == [place % 5 for place in range(200)]
    waits = [seconds for _, seconds in found]
    print(f"mean {statistics.mean(waits):.3f} s, longest {max(waits):.3f} s")  # noqa: T201


def test_the_process_loads_no_model_and_logs_no_traceback(server: Server) -> None:
    httpx.post(f"{server.url}/v2/rerank", json={"query": QUERY, "documents": DOCUMENTS})

    server.process.send_signal(signal.SIGUSR1)
    wait_until(server.modules.exists, "the process lists its modules", 10)

    loaded = set(json.loads(server.modules.read_text()))
    assert {"fastapi", "producer.http.app"} <= loaded
    assert loaded & MODEL_SIDE == set()
    assert "Traceback" not in server.log.read_text()


def test_the_service_is_not_started_for_other_machines_without_a_token() -> None:
    done = rerankq("serve", "--host", "0.0.0.0", "--port", "1", environment={})  # noqa: S104

    assert done.returncode == 2
    assert "set RERANKQ_HTTP_TOKEN" in done.stderr


def test_an_address_that_is_taken_is_an_error_that_names_it() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = rerankq("serve", "--port", port, environment={})

    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr


def test_one_trace_leads_from_the_caller_over_the_web_to_the_worker(
    settings: Settings, tmp_path: Path
) -> None:
    # Imported here, because every process that shares the tests imports this file.
    from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    from producer.http.app import create_app

    # Given a worker and a service that OpenTelemetry traces
    spans = tmp_path / "spans"
    arguments = ("worker", "--pool", "solo", "--loglevel", "INFO", "-n", settings.namespace)
    worker = subprocess.Popen(
        ending_with_us(
            *(sys.executable, "-m", "tests.acceptance.traced_worker", str(spans)),
            *("-A", "worker", *arguments),
        ),
        env=environment(**environment_of(settings)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    in_web, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(in_web))
    given = {"redis_url": settings.redis_url, "namespace": settings.namespace}
    http_settings = HttpSettings.load(**given, http_no_worker_s=60)
    app = create_app(http_settings)
    FastAPIInstrumentor.instrument_app(app, tracer_provider=provider)

    # When a caller sends its trace
    trace_id, span_id = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    headers = {"traceparent": f"00-{trace_id}-{span_id}-01"}
    try:
        with running(app) as api:
            api.post("/v2/rerank", json={"query": "q", "documents": ["a"]}, headers=headers)
        wait_until(lambda: spans.exists() and "rerankq.score" in spans.read_text(), "a span", 20)
    finally:
        end(worker)

    # Then the worker's span is in the same trace, below that of the service
    (scored,) = (json.loads(each) for each in spans.read_text().splitlines())
    assert scored["name"] == "run/rerankq.score"
    assert scored["context"]["trace_id"] == f"0x{trace_id}"
    (answered,) = (each for each in in_web.get_finished_spans() if each.kind.name == "SERVER")
    assert answered.parent is not None
    assert f"{answered.parent.span_id:016x}" == span_id
    assert answered.context is not None
    assert scored["parent_id"] == f"0x{answered.context.span_id:016x}"


def test_the_commands_of_the_page_are_answered(server: Server, tmp_path: Path) -> None:
    curl = [each for each in documented.commands(PAGE) if each.text.startswith("curl ")]
    printed = [run(each.text.replace(ADDRESS, server.url), tmp_path) for each in curl]

    ranked, in_passages, queued, found = (json.loads(each) for each in printed)
    for each in (ranked, in_passages):
        assert each["results"][0]["index"] == 1
    assert queued.keys() >= {"id", "state"}
    assert found["id"] == "job-7"


def run(command: str, folder: Path) -> str:
    """Run a command of the page in a shell; return its output."""
    program("curl")
    return subprocess.run(
        [program("bash"), "-c", command], cwd=folder, capture_output=True, text=True, check=True
    ).stdout


def test_the_program_of_the_page_prints_what_is_shown(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    code = documented.program(PAGE).replace(ADDRESS, server.url)

    with warnings.catch_warnings():
        # The program does not close its connections, as most programs do not.
        warnings.simplefilter("ignore", ResourceWarning)
        exec(compile(code, PAGE, "exec"), {})  # noqa: S102
        gc.collect()

    assert capsys.readouterr().out == documented.texts(PAGE)[0]
