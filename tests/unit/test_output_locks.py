"""One process has an output and the others name it; one that has ended keeps no other out."""

from __future__ import annotations

import errno
import multiprocessing
import os
import resource
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from contract.errors import InvalidInput, RerankError
from producer.files import file_systems
from producer.files.lock_holders import FRESH_S, Holder
from producer.files.output_locks import OutputLock, lock_path
from tests.processes import linux_only, wait_until

HERE = Holder.this_process()


def no_flock(descriptor: int, operation: int) -> None:
    """Behave as on a file system without `flock`."""
    raise OSError(errno.EOPNOTSUPP, "Operation not supported")


#: The file systems: `flock` excludes all, it excludes this machine only, there is none.
LOCAL: dict[str, Any] = {"excludes_all": True}
OF_ONE_MACHINE: dict[str, Any] = {"excludes_all": False}
WITHOUT_FLOCK: dict[str, Any] = {"excludes_all": False, "flock": no_flock}
kinds = pytest.mark.parametrize("kind", [LOCAL, OF_ONE_MACHINE, WITHOUT_FLOCK])
kinds_of_networks = pytest.mark.parametrize("kind", [OF_ONE_MACHINE, WITHOUT_FLOCK])


@contextmanager
def held_by_a_child(output: Path, **kind: Any) -> Iterator[int]:
    """Return the id of a process that has the lock until it is killed."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            OutputLock(str(output), **kind)
            os.write(writing, b"x")
            signal.pause()
        finally:
            os._exit(1)
    os.close(writing)
    try:
        assert os.read(reading, 1) == b"x"
        yield pid
    finally:
        os.close(reading)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def left_by(output: Path, seen_s_ago: float = 2 * FRESH_S, **changes: Any) -> None:
    """Leave the lock of another process, which was last seen this long ago."""
    holder = HERE.model_copy(update={"token": "theirs", "pid": 2**22 + 1} | changes)
    path = lock_path(str(output))
    path.write_text(holder.model_dump_json())
    seen = path.stat().st_mtime - seen_s_ago
    os.utime(path, (seen, seen))


@kinds
def test_the_second_process_is_refused_and_the_first_one_named(
    tmp_path: Path, kind: dict[str, Any]
) -> None:
    with (
        held_by_a_child(tmp_path / "out", **kind) as pid,
        pytest.raises(
            InvalidInput,
            match=rf"/out: another rerankq process is writing this file: process {pid} on "
            rf"{socket.gethostname()}, started 20..-..-.. ..:..:.. UTC; wait until it ends",
        ),
    ):
        OutputLock(str(tmp_path / "out"), **kind)


@kinds
def test_the_lock_of_a_killed_process_is_taken_over_and_reported(
    tmp_path: Path, kind: dict[str, Any]
) -> None:
    output = str(tmp_path / "out")
    with held_by_a_child(tmp_path / "out", **kind) as pid:
        pass
    messages: list[str] = []
    with OutputLock(output, messages.append, **kind):
        assert Holder.parse(lock_path(output).read_bytes()) is not None
    (message,) = messages
    assert message.startswith(f"{output}.lock: taken over from process {pid} on ")
    assert message.endswith(", which has ended")
    assert list(tmp_path.iterdir()) == []


@kinds
def test_the_end_of_a_command_leaves_nothing(tmp_path: Path, kind: dict[str, Any]) -> None:
    for _ in range(2):
        with OutputLock(str(tmp_path / "out"), **kind) as lock:
            lock.check()
    assert list(tmp_path.iterdir()) == []


@kinds
def test_an_output_has_one_lock_under_any_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: dict[str, Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("link").symlink_to("out")
    with OutputLock("out", **kind), pytest.raises(InvalidInput, match=r"^link: another rerankq"):
        OutputLock("link", **kind)


@kinds
@pytest.mark.parametrize("is_left", [False, True])
def test_of_many_processes_at_once_one_has_the_lock(
    tmp_path: Path, kind: dict[str, Any], is_left: bool
) -> None:
    if is_left:
        left_by(tmp_path / "out")
    processes = multiprocessing.get_context("fork")
    begun, tried = processes.Barrier(6), processes.Barrier(6)
    has_it = processes.Value("i", 0)

    def compete() -> None:
        begun.wait(30)
        lock = None
        with suppress(InvalidInput):
            lock = OutputLock(str(tmp_path / "out"), **kind)
        tried.wait(30)
        with suppress(RerankError):
            if lock:
                lock.check()
                with has_it.get_lock():
                    has_it.value += 1

    started = [processes.Process(target=compete) for _ in range(6)]
    for each in started:
        each.start()
    for each in started:
        each.join(60)
    assert has_it.value == 1


# Lock files that a process has left


@linux_only
@pytest.mark.parametrize(
    "left",
    [
        {"pid": os.getppid(), "start_ticks": 1},  # the id is that of another process now
        {"pid": 2**22 + 1},
        {"boot_id": "before", "pid": os.getppid()},
    ],
)
@kinds_of_networks
def test_a_lock_is_stale_if_its_process_has_ended_or_the_machine_was_started_again(
    tmp_path: Path, kind: dict[str, Any], left: dict[str, Any]
) -> None:
    left_by(tmp_path / "out", **left)
    messages: list[str] = []
    with OutputLock(str(tmp_path / "out"), messages.append, **kind):
        assert len(messages) == 1


@linux_only
@pytest.mark.parametrize(
    "left",
    [
        {"pid": os.getpid(), "seen_s_ago": 100 * FRESH_S},  # it runs, but stood still
        {"host": "elsewhere", "boot_id": "another", "seen_s_ago": 1},
        {"pid_namespace": "another", "host": "container", "seen_s_ago": 1},
        {"boot_id": "before", "seen_s_ago": 1},
    ],
)
@kinds_of_networks
def test_a_lock_of_a_process_that_runs_is_respected(
    tmp_path: Path, kind: dict[str, Any], left: dict[str, Any]
) -> None:
    left_by(tmp_path / "out", **left)
    with pytest.raises(InvalidInput, match="another rerankq process is writing this file: process"):
        OutputLock(str(tmp_path / "out"), **kind)


@kinds_of_networks
def test_age_alone_never_frees_the_lock_of_another_machine(
    tmp_path: Path, kind: dict[str, Any]
) -> None:
    output = tmp_path / "out"
    left_by(output, seen_s_ago=3 * 3_600, host="elsewhere", boot_id="another")
    before = lock_path(str(output)).read_bytes()
    with pytest.raises(
        InvalidInput,
        match=r"may be writing this file: process \d+ on elsewhere, started .*, last seen 180"
        r" minutes ago; if it has ended, delete .*/out.lock, and run the command again",
    ):
        OutputLock(str(output), **kind)
    assert lock_path(str(output)).read_bytes() == before

    lock_path(str(output)).unlink()
    with OutputLock(str(output), **kind):
        pass


def test_flock_tells_that_the_process_of_another_machine_has_ended(tmp_path: Path) -> None:
    left_by(tmp_path / "out", host="elsewhere", boot_id="another", seen_s_ago=1)
    messages: list[str] = []
    with OutputLock(str(tmp_path / "out"), messages.append, **LOCAL):
        assert "taken over from process" in messages[0]


@kinds
def test_a_file_that_is_no_lock_is_not_overwritten(tmp_path: Path, kind: dict[str, Any]) -> None:
    (tmp_path / "out.lock").write_text("precious")
    with pytest.raises(InvalidInput, match=r"out.lock: this is not a lock file of this version"):
        OutputLock(str(tmp_path / "out"), **kind)
    assert (tmp_path / "out.lock").read_text() == "precious"


def test_a_lock_is_not_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "victim").touch()
    (tmp_path / "out.lock").symlink_to("victim")
    with pytest.raises(InvalidInput, match=r"out.lock: Too many levels of symbolic links"):
        OutputLock(str(tmp_path / "out"))
    assert (tmp_path / "victim").read_bytes() == b""


def test_a_process_that_was_killed_before_it_wrote_its_name_keeps_nobody_out(
    tmp_path: Path,
) -> None:
    (tmp_path / "out.lock").touch()
    with OutputLock(str(tmp_path / "out"), **LOCAL) as lock:
        lock.check()


def test_a_full_disk_is_reported_and_leaves_no_part_of_a_lock(tmp_path: Path) -> None:
    pid = os.fork()
    if not pid:
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))
            OutputLock(str(tmp_path / "out"))
        except OSError as error:
            os._exit(0 if error.filename == str(tmp_path / "out.lock") else 2)
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
    assert list(tmp_path.iterdir()) == []


# While the lock is held


@kinds_of_networks
def test_the_holder_shows_that_it_runs(tmp_path: Path, kind: dict[str, Any]) -> None:
    path = tmp_path / "out.lock"
    with OutputLock(str(tmp_path / "out"), **kind, beat_s=0.01):
        os.utime(path, (0, 0))
        wait_until(lambda: path.stat().st_mtime > 0, "the time is renewed", within_s=10)


@kinds
def test_a_lock_that_somebody_deletes_or_replaces_is_missed(
    tmp_path: Path, kind: dict[str, Any]
) -> None:
    with ExitStack() as stack:
        lock = stack.enter_context(OutputLock(str(tmp_path / "out"), **kind))
        lock.path.unlink()
        with pytest.raises(RerankError, match=r"out.lock: deleted or replaced while"):
            lock.check()
        # Another process has it now, and keeps it when this one ends.
        other = stack.enter_context(OutputLock(str(tmp_path / "out"), **kind))
        with pytest.raises(RerankError, match="another one may be writing"):
            lock.check()
        lock.__exit__()
        other.check()
        stack.pop_all()
        other.__exit__()


# File systems


@pytest.mark.parametrize(
    ("mount", "excludes_all"),
    [
        ("ext4 /dev/sda1 rw", True),
        ("overlay overlay rw,lowerdir=/x", True),
        ("tmpfs tmpfs rw", True),
        ("nfs4 server:/x rw,vers=4.2,local_lock=none,addr=10.0.0.1", True),
        ("nfs server:/x rw,vers=3,nolock,local_lock=all", False),
        ("nfs server:/x rw,vers=3,local_lock=flock", False),
        ("ceph mon:/ rw", True),
        ("lustre mgs@tcp:/x rw,flock", True),
        ("lustre mgs@tcp:/x rw,localflock", False),
        ("cifs //server/x rw", False),
        ("9p drvfs rw", False),
        ("virtiofs shared rw", False),
        ("fuse.juicefs JuiceFS:x rw", False),
        ("fuse.fuse-overlayfs fuse-overlayfs rw", True),
    ],
)
def test_flock_excludes_all_on_local_disks_and_on_some_networks(
    tmp_path: Path, mount: str, excludes_all: bool
) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"21 1 8:1 / / rw - ext4 /dev/root rw\n36 21 0:32 / /data rw - {mount}\n")
    assert file_systems.locks_exclude_all(Path("/data/out.lock"), mounts) is excludes_all
    assert file_systems.locks_exclude_all(Path("/elsewhere"), mounts)
    assert not file_systems.locks_exclude_all(Path("/data"), tmp_path / "missing")
