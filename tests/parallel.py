"""Share the tests out among several processes: `pytest -p tests.parallel --processes 5`.

This process imports and collects the tests once, which takes seconds, and then forks the others.
Each of them takes one group of tests after the other, starts the services that its tests ask for,
and sends its reports.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import random
import struct
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import pytest

from tests.groups import group

#: The number of a group, as the pipe has it: what is read at once is not shared.
NUMBER = struct.Struct("H")
#: How many groups the summary names.
LONGEST = 6
#: Far more than a process needs to end its services.
TIMEOUT_S = 120
FORKING = multiprocessing.get_context("fork")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--processes", type=int, default=1, help="how many processes run the tests")


@dataclass
class Balance:
    """The duration of each group, and the end of each process."""

    seconds: Counter[str] = field(default_factory=Counter)
    ends: list[float] = field(default_factory=list)


BALANCE = pytest.StashKey[Balance]()


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print what `tests.groups` needs: which groups take longest, and whether processes idled."""
    balance = config.stash.get(BALANCE, None)
    if balance is None or not balance.ends:
        return
    longest = (f"{name} {seconds:.0f} s" for name, seconds in balance.seconds.most_common(LONGEST))
    idle = (f"{max(balance.ends) - end:.0f}" for end in balance.ends)
    terminalreporter.write_line(f"longest groups: {', '.join(longest)}")
    terminalreporter.write_line(f"processes without work at the end: {', '.join(idle)} s")


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Run the tests in several processes; leave it to pytest if one is enough."""
    count = session.config.getoption("processes")
    if count == 1 or session.config.option.collectonly or session.testsfailed:
        return None
    groups = [list(each) for _, each in itertools.groupby(session.items, lambda i: group(i.nodeid))]
    queue = _queue_of(len(groups))
    children: list[Child] = []
    try:
        for _ in range(count):
            children.append(Child(session, groups, queue, children))
        _relay(session, children)
    finally:
        os.close(queue)
        for child in children:
            child.end()
    return True


class Child:
    """A process that runs groups of tests."""

    def __init__(
        self,
        session: pytest.Session,
        groups: list[list[pytest.Item]],
        queue: int,
        others: list[Child],
    ) -> None:
        self.connection, theirs = FORKING.Pipe(duplex=False)
        #: The node id and the location of the test that it runs.
        self.running: tuple[str, Any] | None = None
        ours = [*(each.connection for each in others), self.connection]
        self.process = FORKING.Process(target=_run, args=(session, groups, queue, theirs, ours))
        self.process.start()
        theirs.close()

    def receive(self) -> tuple[str, Any]:
        """Return what it reports next, which is "ended" also if it was killed."""
        with suppress(EOFError):
            if self.connection.poll():
                received: tuple[str, Any] = self.connection.recv()
                return received
        return "ended", None

    def end(self) -> None:
        """Wait until the process has ended its services, and end it if they do not end."""
        self.connection.close()
        self.process.join(TIMEOUT_S)
        self.process.kill()
        self.process.join()


def _relay(session: pytest.Session, children: list[Child]) -> None:
    """Report what the children report, until all have ended."""
    balance = session.config.stash[BALANCE] = Balance()
    left = {child.connection: child for child in children}
    unfinished = len(session.items)
    while left:
        # A process that was killed may have children that keep its connection open.
        ready = wait([*left], timeout=1.0) or [
            connection for connection, child in left.items() if not child.process.is_alive()
        ]
        for connection in ready:
            child = left[connection]  # type: ignore[index]
            name, told = child.receive()
            if name == "ended":
                del left[child.connection]
                balance.ends.append(time.monotonic())
                child.process.join(TIMEOUT_S)
            unfinished -= name == "finished"
            _report(session.config, child, name, told)
        if session.shouldfail:
            raise session.Failed(session.shouldfail)
    if unfinished:
        session.shouldfail = f"{unfinished} tests did not run to their end"
        raise session.Failed(session.shouldfail)


def _report(config: pytest.Config, child: Child, name: str, told: Any) -> None:
    """Report to pytest what a child has sent."""
    if name == "running":
        child.running = told
    elif name == "finished":
        child.running = None
    elif name == "warning":
        config.hook.pytest_warning_recorded.call_historic(kwargs=told)
    elif name == "report":
        report = config.hook.pytest_report_from_serializable(config=config, data=told)
        config.hook.pytest_runtest_logreport(report=report)
        config.stash[BALANCE].seconds[group(report.nodeid)] += report.duration
    elif child.running:
        config.hook.pytest_runtest_logreport(report=_crash(*child.running, child.process))


def _crash(nodeid: str, location: Any, process: Any) -> pytest.TestReport:
    said = f"the process that ran this test ended with exit code {process.exitcode}"
    return pytest.TestReport(nodeid, location, {}, "failed", said, "call")


def _queue_of(count: int) -> int:
    """Return a pipe that holds the numbers of the groups."""
    reading, writing = os.pipe()
    for number in range(count):
        os.write(writing, NUMBER.pack(number))
    os.close(writing)
    return reading


def _taken(queue: int) -> Iterator[int]:
    """Yield the numbers that no other process takes."""
    while number := os.read(queue, NUMBER.size):
        yield NUMBER.unpack(number)[0]


def _run(
    session: pytest.Session,
    groups: list[list[pytest.Item]],
    queue: int,
    connection: Connection,
    others: list[Connection],
) -> None:
    """Run groups of tests in this process, until none is left or no process reads the reports."""
    for each in others:
        each.close()
    random.seed()
    _write_nothing(session.config)
    session.config.pluginmanager.register(Sender(session.config, connection))
    run = session.config.hook.pytest_runtest_protocol
    elsewhere = Elsewhere.from_parent(session, name="elsewhere")
    item = None
    with suppress(BrokenPipeError, KeyboardInterrupt):
        for number in _taken(queue):
            for item, following in itertools.pairwise((*groups[number], elsewhere)):
                run(item=item, nextitem=following)
        if item is not None:
            _end_services(session, item)
        connection.send(("ended", None))


class Elsewhere(pytest.Item):
    """A test after a group, which ends the services that were not started for the session."""

    def runtest(self) -> None:
        """Do nothing; the next test is not known yet."""


def _end_services(session: pytest.Session, last: pytest.Item) -> None:
    """End what was started for the whole session; the last test reports what goes wrong."""
    runner = session.config.pluginmanager.get_plugin("runner")
    assert runner is not None
    call = pytest.CallInfo.from_call(lambda: runner.pytest_sessionfinish(session), "teardown")
    if call.excinfo:
        report = session.config.hook.pytest_runtest_makereport(item=last, call=call)
        session.config.hook.pytest_runtest_logreport(report=report)


def _write_nothing(config: pytest.Config) -> None:
    """Do not write to the terminal, and do not share the files that capture the tests' output."""
    capture = config.pluginmanager.get_plugin("capturemanager")
    assert capture is not None
    capture.stop_global_capturing()
    with Path(os.devnull).open("wb") as nothing:
        os.dup2(nothing.fileno(), 1)
    capture.start_global_capturing()
    capture.suspend_global_capture()


class Sender:
    """A plugin that sends all reports."""

    def __init__(self, config: pytest.Config, connection: Connection) -> None:
        self._config = config
        self._connection = connection

    def pytest_runtest_logstart(self, nodeid: str, location: Any) -> None:
        self._connection.send(("running", (nodeid, location)))

    def pytest_runtest_logfinish(self) -> None:
        self._connection.send(("finished", None))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        told = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        self._connection.send(("report", told))

    def pytest_warning_recorded(
        self, warning_message: Any, when: str, nodeid: str, location: Any
    ) -> None:
        if when != "runtest":  # the hook repeats all earlier ones
            return
        warning_message.message = str(warning_message.message)
        warning_message.source = None
        told = {"warning_message": warning_message, "when": when}
        self._connection.send(("warning", {**told, "nodeid": nodeid, "location": location}))
