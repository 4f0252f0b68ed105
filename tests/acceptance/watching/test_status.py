"""`rerankq status --watch` in a terminal."""

from __future__ import annotations

import os
import pty
import signal
from collections.abc import Iterator

import pytest

from tests.command_line import rerankq
from tests.embedded_redis import FaultyRedis
from tests.processes import end, linux_only, start, wait_until

pytestmark = linux_only


class Terminal:
    """A command whose output is watched."""

    def __init__(self, *command: str, environment: dict[str, str]) -> None:
        self._ours, its = pty.openpty()
        size = {"COLUMNS": "120", "LINES": "50", "TERM": "xterm"}
        self.process = start(
            "producer", *command, environment=environment | size, log=its, stdin=its
        )
        os.close(its)
        os.set_blocking(self._ours, False)

    def shown(self) -> str:
        """Return the output since the last call."""
        try:
            return os.read(self._ours, 2**20).decode()
        except BlockingIOError:
            return ""

    def close(self) -> None:
        end(self.process)
        os.close(self._ours)


@pytest.fixture
def server() -> Iterator[FaultyRedis]:
    with FaultyRedis() as made:
        yield made


@pytest.fixture
def terminal(server: FaultyRedis) -> Iterator[Terminal]:
    command = ("status", "--watch", "--interval", "0.1")
    made = Terminal(*command, environment={"RERANKQ_REDIS_URL": server.url})
    yield made
    made.close()


def test_it_goes_on_while_redis_is_away_and_until_ctrl_c(
    server: FaultyRedis, terminal: Terminal
) -> None:
    wait_until(lambda: "done/s" in terminal.shown(), "rates are shown")

    # When Redis is away
    with server.away():
        wait_until(lambda: "does not answer" in terminal.shown(), "the trouble is shown")
        # Then each screen reports it, until Redis is back
        pictures = ""

        def some() -> bool:
            nonlocal pictures
            pictures += terminal.shown()
            return pictures.count("queue depth") >= 5

        wait_until(some, "some pictures")
        assert pictures.count("does not answer") >= pictures.count("queue depth") - 1

    def over() -> bool:
        text = terminal.shown()
        return "done/s" in text and "does not answer" not in text

    wait_until(over, "the trouble is over")
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.process.wait(30) == 0


def test_it_does_not_begin_without_redis() -> None:
    done = rerankq(
        *("status", "--watch"), environment={"RERANKQ_REDIS_URL": "redis://127.0.0.1:1/0"}
    )

    assert done.returncode == 4
    assert done.stderr.startswith("Error: Redis at redis://127.0.0.1:1/0 does not answer")


def test_it_is_for_the_whole_service() -> None:
    done = rerankq("status", "some-job", "--watch", environment={})

    assert done.returncode == 2
    assert "--watch" in done.stderr


def test_metrics_are_not_served_where_somebody_else_listens(server: FaultyRedis) -> None:
    done = rerankq(
        *("metrics", "--serve", "--port", str(server.port)),
        environment={"RERANKQ_REDIS_URL": server.url},
    )

    assert done.returncode == 1
    assert done.stderr.startswith(f"Error: cannot listen on 127.0.0.1:{server.port}")
    assert "--port" in done.stderr
