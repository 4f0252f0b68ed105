"""A file has its name once it is whole, and one process writes it at a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from contract.errors import InvalidInput
from producer import outputs


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt(), SystemExit(1)])
def test_a_file_has_its_name_only_once_it_is_whole(tmp_path: Path, error: BaseException) -> None:
    output = tmp_path / "out"

    def fail_half_way() -> None:
        with outputs.whole_file(str(output)) as file:
            file.write(b"half")
            file.flush()
            assert not output.exists()
            raise error

    with pytest.raises(type(error)):
        fail_half_way()
    assert list(tmp_path.iterdir()) == []
    with outputs.whole_file(str(output)) as file:
        file.write(b"whole")
    assert output.read_bytes() == b"whole"
    assert list(tmp_path.iterdir()) == [output]


def test_a_finished_file_has_the_rights_of_any_other_new_file(tmp_path: Path) -> None:
    with outputs.whole_file(str(tmp_path / "out")) as file:
        file.write(b"whole")
    (tmp_path / "plain").touch()
    assert (tmp_path / "out").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_an_output_that_cannot_be_made_is_refused_at_the_start(tmp_path: Path) -> None:
    outputs.check_writable("-")
    outputs.check_writable(str(tmp_path / "new"))
    with pytest.raises(InvalidInput, match="is a directory"):
        outputs.check_writable(str(tmp_path))
    with pytest.raises(InvalidInput, match="folder does not exist"):
        outputs.check_writable(str(tmp_path / "no" / "out"))


def test_what_a_killed_process_left_of_a_file_is_overwritten(tmp_path: Path) -> None:
    # Given what a process leaves that is killed while it writes
    half = outputs.whole_file(str(tmp_path / "out"))
    half.__enter__().write(b"half of a long file")
    (left,) = tmp_path.iterdir()
    copy = left.read_bytes() + b"half of a long file"
    half.__exit__(None, None, None)
    (tmp_path / "out").unlink()
    left.write_bytes(copy)

    # When the next one writes it
    with outputs.whole_file(str(tmp_path / "out")) as file:
        file.write(b"whole")

    # Then nothing else is there
    assert (tmp_path / "out").read_bytes() == b"whole"
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]


def test_a_file_is_opened_by_one_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with outputs.open_locked(path) as file:
        file.write(b"line\n")
        with pytest.raises(InvalidInput, match=r"journal: another rerankq is writing it"):
            outputs.open_locked(path)
    with outputs.open_locked(path) as file:
        assert file.read() == b"line\n"
