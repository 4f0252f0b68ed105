"""The files of a run on a full disk, in a private folder, and with two runs at once."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryFile

import pytest

from contract.settings import Settings
from tests.acceptance.conftest import SAMPLE, environment_of
from tests.command_line import rerankq
from tests.processes import rerankq_process, start

RUN = (
    *("rescore", "--depth", "10", "--pairs-per-job", "100"),
    *("--corpus", str(SAMPLE / "corpus.jsonl"), "--queries", str(SAMPLE / "queries.jsonl")),
    *("--run", str(SAMPLE / "bm25.trec")),
)


@pytest.fixture
def environment(stub_service: Settings) -> dict[str, str]:
    return environment_of(stub_service)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def undisturbed(stub_service: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the output of a run on a disk with room, in its own folder."""
    folder = tmp_path_factory.mktemp("undisturbed")
    command = (*RUN, "--output", str(folder / "out"), "--results", str(folder / "out.jsonl"))
    done = rerankq(*command, environment=environment_of(stub_service))
    assert done.returncode == 0, done.stderr
    return folder / "out"


@pytest.mark.parametrize(
    ("most_bytes", "finished"),
    [(300, set()), (5_000, set()), (40_000, {"out"})],
    ids=["manifest", "journal", "results"],
)
def test_a_full_disk_ends_a_run_that_goes_on_when_there_is_room(
    environment: dict[str, str],
    tmp_path: Path,
    undisturbed: Path,
    most_bytes: int,
    finished: set[str],
) -> None:
    # When one of the files no longer fits on the disk
    output = tmp_path / "out"
    command = (*RUN, "--output", str(output), "--results", str(tmp_path / "out.jsonl"))
    full = rerankq_process(*command, environment=environment, max_file_bytes=most_bytes)

    # Then the file that did not fit is reported, and no incomplete file is left
    assert full.returncode == 1, full.stderr
    last = full.stderr.splitlines()[-1]
    assert last.startswith(f"Error: {output}.")
    assert last.endswith(": File too large")
    assert "Traceback" not in full.stderr
    assert {"out", "out.jsonl"} & set(names(tmp_path)) == finished
    for name in finished:
        assert (tmp_path / name).read_bytes() == (undisturbed.parent / name).read_bytes()

    # And with room, the same command continues to the same result
    again = rerankq(*command, environment=environment)
    assert again.returncode == 0, again.stderr
    assert output.read_bytes() == undisturbed.read_bytes()
    assert names(tmp_path) == names(undisturbed.parent) == ["out", "out.jsonl"]


def test_an_output_that_takes_nothing_is_an_error_that_names_it(
    environment: dict[str, str],
) -> None:
    done = rerankq(*RUN, "--output", "/dev/full", environment=environment)

    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "Error: /dev/full: No space left on device"


def test_what_is_written_on_the_way_is_as_private_as_the_output(
    environment: dict[str, str], tmp_path: Path
) -> None:
    output = tmp_path / "out"
    output.touch()
    output.chmod(0o600)

    # When the run ends midway
    full = rerankq_process(
        *RUN, "--output", str(output), environment=environment, max_file_bytes=5_000
    )
    assert full.returncode == 1, full.stderr

    # Then no other user can read its files, nor the output in the end
    assert len(list(tmp_path.iterdir())) == 3
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    assert rerankq(*RUN, "--output", str(output), environment=environment).returncode == 0
    assert [path.stat().st_mode & 0o777 for path in tmp_path.iterdir()] == [0o600]


def test_a_reader_that_has_read_enough_ends_the_command_in_silence(
    environment: dict[str, str],
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with TemporaryFile("w+") as log:
        command = ("producer", *RUN, "--output", "-")
        process = start(*command, environment=environment, log=log, stdout=writer)
        os.close(writer)
        assert process.wait(120) == 1
        log.seek(0)
        said = log.read()

    assert "scored 500 pairs" in said
    assert "Broken" not in said
    assert "Traceback" not in said
