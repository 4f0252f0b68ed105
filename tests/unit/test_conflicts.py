"""No command overwrites its input, or writes two outputs to one file, under any of their names."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from contract.errors import InvalidInput
from producer.cli import main
from producer.files import conflicts
from tests.command_line import rerankq

LINE = json.dumps({"query_id": "q", "query": "a", "candidates": [{"id": "d", "text": "b"}]}) + "\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make inputs, and links to them. Redis's port has no listener."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RERANKQ_REDIS_URL", "redis://127.0.0.1:1/0")
    for name in ("x", "d/y", ".out.unfinished", "out.partial.jsonl", "out.manifest.json", "q"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(LINE)
    Path("link").symlink_to("x")
    Path("link-to-link").symlink_to("link")
    Path("hard").hardlink_to("x")
    Path("ld").symlink_to("d")
    Path("dangling").symlink_to("d/none")
    return tmp_path


def contents(folder: Path) -> dict[str, bytes | str]:
    return {
        str(path): str(path.readlink()) if path.is_symlink() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


SAME = [
    "--input ./x --output x",
    "--input x --output d/../x",
    "--input x --output link",
    "--input link --output x",
    "--input link-to-link --output link",
    "--input x --output hard",
    "--input hard --output link",
    "--input d/y --output ld/y",
    "--input ld/../d/y --output d/y",
    "--input x --output out --results x",
    "--input .out.unfinished --output out",
    "--input out.partial.jsonl --output out",
    "--input out.manifest.json --output out",
    "--input out.partial.jsonl --output ./d/../out",
    "--input q --output new --results out.partial.jsonl --qrels out.partial.jsonl",
    "--input x --output q --qrels ./q",
    "--input x --output new --results link",
    "--corpus x --queries q --run d/y --output ld/y",
    "--corpus link --queries q --run d/y --output x",
    "--corpus x --queries q --run d/y --output new --results ./q",
    "--input x --output new --results ./new",
    "--input x --output new --results ld/../new",
    "--input x --output new --results new.partial.jsonl",
    "--input x --output new --results ./new.manifest.json",
    "--input x --output new --results .new.unfinished",
    "--input x --output new --results .new.manifest.json.unfinished",
    "--input x --output dangling --results d/none",
    "--input x --output dangling --results ld/none.partial.jsonl",
    "--input x --output .new.unfinished --results new",
    "--input d/y --output y --results y.manifest.json",
    "--input x --output - --results -",
    "--input x --output - --results /dev/stdout",
    "--input x --output /dev/fd/1 --results /proc/self/fd/1",
]


@pytest.mark.parametrize("arguments", SAME)
@pytest.mark.parametrize("dry_run", [False, True])
def test_one_file_under_two_names_is_refused_before_anything_is_written(
    folder: Path, capfd: pytest.CaptureFixture[str], arguments: str, dry_run: bool
) -> None:
    before = contents(folder)

    with pytest.raises(SystemExit) as ended:
        main(["rescore", *arguments.split(), *(["--dry-run"] if dry_run else [])])

    said = capfd.readouterr().err
    assert (ended.value.code, said.count("\n")) == (2, 1), said
    assert "are the same file" in said
    assert "--output" in said or "--results" in said
    assert contents(folder) == before


def test_what_a_shell_has_opened_is_a_file_like_others(folder: Path) -> None:
    before = (folder / "x").read_bytes()
    arguments = "rescore --input /dev/fd/5 --output x 5< x"
    command = f"{shlex.quote(sys.executable)} -m producer {arguments}"

    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)  # noqa: S607

    assert done.returncode == 2, done.stderr
    assert "are the same file" in done.stderr
    assert (folder / "x").read_bytes() == before


@contextmanager
def redirected(descriptor: int, path: str) -> Iterator[None]:
    """Open the file in this process, like a shell does for `>> path` or `< path`."""
    before = os.dup(descriptor)
    opened = os.open(path, os.O_CREAT | (os.O_WRONLY | os.O_APPEND if descriptor else os.O_RDONLY))
    os.dup2(opened, descriptor)
    try:
        yield
    finally:
        os.dup2(before, descriptor)
        os.close(before)
        os.close(opened)


@pytest.mark.parametrize(
    ("arguments", "descriptor", "path"),
    [
        ("rescore --input x --output /dev/stdout", 1, "link"),
        ("rescore --input /dev/stdin --output x", 0, "hard"),
        ("rescore --input - --output x", 0, "x"),
        ("rescore --input x --output -", 1, "x"),
        ("rescore --input x --output - --results out2", 1, "out2"),
        ("rescore --input x --output out2", 2, "x"),
        ("compare --input x --model a --model b", 1, "x"),
        ("submit --query q --documents x", 1, "x"),
    ],
)
def test_what_is_open_already_is_a_file_like_others(
    folder: Path, arguments: str, descriptor: int, path: str
) -> None:
    before = (folder / "x").read_bytes()

    with redirected(descriptor, path):
        done = rerankq(*arguments.split(), environment={})

    assert done.returncode == 2, done.stderr
    assert "are the same file" in done.stderr
    assert (folder / "x").read_bytes() == before


@pytest.mark.parametrize(
    "arguments",
    [
        "--input x --output new",
        "--input x --output new --results other",
        "--input x --output X",
        "--input x --output d/x",
        "--input x --output /dev/null",
        "--input x --output - --results /dev/null",
        "--input x --output /dev/null --results /dev/null",
        "--input d/y --output dangling",
        "--input x --output new --results out.partial.jsonl",
    ],
)
def test_different_files_are_taken(folder: Path, arguments: str) -> None:
    before = contents(folder)

    with pytest.raises(SystemExit) as ended:
        main(["rescore", *arguments.split(), "--dry-run"])

    assert ended.value.code == 0
    assert contents(folder) == before


def test_a_terminal_is_no_file(folder: Path) -> None:
    main_end, terminal = os.openpty()
    try:
        name = os.ttyname(terminal)
        conflicts.check([conflicts.FileUse("--input", name)], [conflicts.FileUse("--output", name)])
        with pytest.raises(InvalidInput, match=r"--output .* and --results .* are the same file"):
            conflicts.check(
                [], [conflicts.FileUse("--output", name), conflicts.FileUse("--results", name)]
            )
    finally:
        os.close(main_end)
        os.close(terminal)
