"""A file gets its name once it is complete, and one process at a time writes it."""

from __future__ import annotations

import os
import signal
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from contract.errors import InvalidInput, RerankError
from producer.files import outputs


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt(), SystemExit(1)])
def test_a_file_has_its_name_only_once_it_is_whole(tmp_path: Path, error: BaseException) -> None:
    output = tmp_path / "out"

    def fail_half_way() -> None:
        with outputs.atomic_file(str(output)) as file:
            file.write(b"half")
            file.flush()
            assert not output.exists()
            raise error

    with pytest.raises(type(error)):
        fail_half_way()
    assert list(tmp_path.iterdir()) == []
    with outputs.atomic_file(str(output)) as file:
        file.write(b"whole")
    assert output.read_bytes() == b"whole"
    assert list(tmp_path.iterdir()) == [output]


def test_a_finished_file_has_the_rights_of_any_other_new_file(tmp_path: Path) -> None:
    with outputs.atomic_file(str(tmp_path / "out")) as file:
        file.write(b"whole")
    (tmp_path / "plain").touch()
    assert (tmp_path / "out").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_an_output_that_cannot_be_made_is_refused_at_the_start(tmp_path: Path) -> None:
    outputs.check_writable("-")
    outputs.check_writable(str(tmp_path / "new"))
    with pytest.raises(InvalidInput, match="is a directory"):
        outputs.check_writable(str(tmp_path))
    with pytest.raises(InvalidInput, match="directory does not exist"):
        outputs.check_writable(str(tmp_path / "no" / "out"))


def test_what_a_killed_process_left_of_a_file_is_overwritten(tmp_path: Path) -> None:
    # Given what a process leaves that is killed while it writes
    half = outputs.atomic_file(str(tmp_path / "out"))
    half.__enter__().write(b"half of a long file")
    (left,) = tmp_path.iterdir()
    copy = left.read_bytes() + b"half of a long file"
    half.__exit__(None, None, None)
    (tmp_path / "out").unlink()
    left.write_bytes(copy)

    # When the next one writes it
    with outputs.atomic_file(str(tmp_path / "out")) as file:
        file.write(b"whole")

    # Then nothing else is there
    assert (tmp_path / "out").read_bytes() == b"whole"
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]


def test_a_file_is_opened_by_one_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with outputs.open_locked(path) as file:
        file.write(b"line\n")
        with pytest.raises(InvalidInput, match=r"journal: another rerankq process is writing"):
            outputs.open_locked(path)
    with outputs.open_locked(path) as file:
        assert file.read() == b"line\n"


# Files that existed before


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644, 0o660, 0o666, 0o755, 0o200])
def test_a_file_that_is_replaced_keeps_its_mode(
    tmp_path: Path, open_umask: None, mode: int
) -> None:
    output = tmp_path / "out"
    output.write_text("old")
    output.chmod(mode)

    with outputs.atomic_file(str(output)) as file:
        file.write(b"new")
        (unfinished,) = tmp_path.glob(".*")
        # Even while it is written, no other user can read it.
        assert mode_of(unfinished) & ~mode == 0

    assert mode_of(output) == mode
    output.chmod(0o600)  # only root can read the file in every mode
    assert output.read_bytes() == b"new"


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_new_file_obeys_the_umask(
    tmp_path: Path, open_umask: None, umask: int, mode: int
) -> None:
    os.umask(umask)
    with outputs.atomic_file(str(tmp_path / "out")) as file:
        file.write(b"new")
    assert mode_of(tmp_path / "out") == mode


def test_what_a_killed_process_left_is_no_more_open_than_what_it_becomes(
    tmp_path: Path, open_umask: None
) -> None:
    output = tmp_path / "out"
    outputs.unfinished_path(str(output)).touch(0o644)
    output.touch(0o600)

    with outputs.atomic_file(str(output)):
        assert mode_of(outputs.unfinished_path(str(output))) == 0o600
    assert mode_of(output) == 0o600


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
def test_a_file_that_is_replaced_keeps_its_owner(tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.touch(0o640)
    os.chown(output, 65534, 65533)

    with outputs.atomic_file(str(output)) as file:
        file.write(b"new")

    found = output.stat()
    assert (found.st_uid, found.st_gid, mode_of(output)) == (65534, 65533, 0o640)


@pytest.fixture
def shared() -> Iterator[Path]:
    """Return a folder that other users can reach."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)


def succeeds_as(uid: int, gid: int, act: Callable[[], object]) -> bool:
    """Return whether another user can do this, in a process of that user."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1] == 0
    try:
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
        act()
        os._exit(0)
    except BaseException:  # noqa: BLE001
        os._exit(1)


as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can run as another user")


@as_root
def test_rights_of_a_group_that_cannot_be_kept_go_to_no_other(shared: Path) -> None:
    output = shared / "out"
    output.touch()
    output.chmod(0o664)
    os.chown(output, 65534, 65533)

    def write() -> None:
        with outputs.atomic_file(str(output)) as file:
            file.write(b"new")

    assert succeeds_as(65534, 65532, write)
    found = output.stat()
    assert output.read_bytes() == b"new"
    assert (found.st_uid, found.st_gid, mode_of(output)) == (65534, 65532, 0o604)


@as_root
@pytest.mark.parametrize(
    ("mode", "folder_mode", "writable"),
    [(0o644, 0o777, True), (0o444, 0o777, False), (0o644, 0o755, False)],
)
def test_what_is_write_protected_is_refused_at_the_start(
    shared: Path, mode: int, folder_mode: int, writable: bool
) -> None:
    (shared / "out").touch()
    (shared / "out").chmod(mode)
    os.chown(shared / "out", 65534, 65534)
    shared.chmod(folder_mode)

    checked = succeeds_as(65534, 65534, lambda: outputs.check_writable(str(shared / "out")))

    assert checked == writable


def test_a_link_stays_and_what_it_points_to_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to("target")
    (tmp_path / "link-to-link").symlink_to(tmp_path / "link")

    with outputs.atomic_file(str(tmp_path / "link-to-link")) as file:
        file.write(b"new")

    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "link-to-link").is_symlink()
    assert (tmp_path / "target").read_text() == "new"
    assert len(list(tmp_path.iterdir())) == 3


def test_a_link_to_what_is_not_there_yet_is_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("target")
    with outputs.atomic_file(str(tmp_path / "link")) as file:
        file.write(b"new")
    assert (tmp_path / "target").read_text() == "new"


@pytest.mark.parametrize(
    ("target", "reason"), [("no/out", "directory does not exist"), ("loop", "cannot be resolved")]
)
def test_a_link_to_where_nothing_can_be_is_refused(
    tmp_path: Path, target: str, reason: str
) -> None:
    (tmp_path / "loop").symlink_to(target)
    with pytest.raises(InvalidInput, match=reason):
        outputs.check_writable(str(tmp_path / "loop"))


def test_a_name_that_is_too_long_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="File name too long"):
        outputs.check_writable(str(tmp_path / ("x" * 300)))


def test_what_would_be_written_under_a_link_of_somebody_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    outputs.unfinished_path(str(tmp_path / "out")).symlink_to("victim")
    with pytest.raises(InvalidInput, match="cannot be written"):
        outputs.OutputFile(str(tmp_path / "out"))
    assert (tmp_path / "victim").read_text() == "precious"


# One process at a time


@pytest.mark.parametrize("name", ["out", "./out", "link", "folder-link/out"])
def test_an_output_is_one_process_s_under_any_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("link").symlink_to("out")
    Path("folder-link").symlink_to(".")

    with (
        outputs.OutputFile("out"),
        pytest.raises(InvalidInput, match=f"^{name}: another rerankq process is writing"),
    ):
        outputs.OutputFile(name)

    with outputs.OutputFile(name) as again, again.atomic() as file:
        file.write(b"new")
    assert Path("out").read_bytes() == b"new"


def test_an_output_of_a_killed_process_is_free(tmp_path: Path) -> None:
    pid = os.fork()
    if not pid:
        try:
            outputs.OutputFile(str(tmp_path / "out"))
            os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(1)
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL

    with outputs.OutputFile(str(tmp_path / "out")):
        pass
    assert list(tmp_path.iterdir()) == []


# Paths that are not files


def test_a_pipe_without_a_reader_is_refused_rather_than_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(InvalidInput, match="no process reads from this pipe"):
        outputs.OutputFile(str(pipe))


def test_a_pipe_with_a_reader_is_written_to(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with outputs.atomic_file(str(pipe)) as file:
        file.write(b"line")
    assert os.read(reading, 100) == b"line"
    os.close(reading)


def test_a_reader_that_ends_early_is_an_error_that_names_the_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with outputs.OutputFile(str(pipe)) as output:
        os.close(reading)
        with pytest.raises(RerankError, match="pipe: the process that reads from it has ended"):  # noqa: SIM117
            with output.atomic() as file:
                file.write(b"line")


def test_an_open_file_is_written_to_where_it_stands(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log:
        log.write(b"before\n")
        log.flush()
        with outputs.atomic_file(f"/dev/fd/{log.fileno()}") as file:
            file.write(b"line\n")
    assert (tmp_path / "log").read_bytes() == b"before\nline\n"


def test_an_open_file_for_reading_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in").touch()
    with (
        (tmp_path / "in").open() as file,
        pytest.raises(InvalidInput, match="not open for writing"),
    ):
        outputs.OutputFile(f"/dev/fd/{file.fileno()}")


def test_a_full_disk_is_an_error_that_names_the_output() -> None:
    with pytest.raises(OSError, match="No space left on device: '/dev/full'"):  # noqa: SIM117
        with outputs.atomic_file("/dev/full") as file:
            file.write(b"line")


def test_a_terminal_is_not_given_escape_sequences_of_others() -> None:
    main_end, terminal = os.openpty()
    with (
        os.fdopen(terminal, "w") as stdout,
        redirect_stdout(stdout),
        outputs.atomic_file("-") as file,
    ):
        file.write(b"q Q0 d\x1b[31m 1\n")
    assert os.read(main_end, 100) == b"q Q0 d\\x1b[31m 1\r\n"
    os.close(main_end)
