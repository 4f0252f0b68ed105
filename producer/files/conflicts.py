"""Reject outputs that are also inputs or other outputs, by comparing files instead of names."""

from __future__ import annotations

import os
import stat
import tempfile
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from pathlib import Path

from contract.errors import InvalidInput
from producer.files import outputs
from producer.files.reading import STDIN
from producer.files.remote import is_remote
from producer.files.streams import STDOUT, is_stream


@dataclass(frozen=True)
class FileUse:
    """A file that a command reads or writes."""

    #: The option or stream that uses the file, such as `--output`; messages begin with it.
    what: str
    #: The name given by the user.
    name: str
    #: The descriptor of an open file, instead of the name.
    descriptor: int | None = None

    def __str__(self) -> str:
        return f"{self.what} {self.name}".strip()


@dataclass(frozen=True)
class _NewFile:
    """A file that does not exist yet, by the device and inode of its folder, and its name."""

    folder: tuple[int, int]
    name: str


def input_uses(option: str, name: str | None) -> Iterator[FileUse]:
    """Yield the file of an option, if the option is given."""
    if name and not is_remote(name):
        yield FileUse(option, name, 0 if name == STDIN else None)


def output_uses(option: str, name: str | None) -> Iterator[FileUse]:
    """Yield the output of an option and its unfinished file, if the option is given."""
    if not name:
        return
    yield FileUse(option, name, 1 if name == STDOUT else None)
    if not is_stream(name):
        yield FileUse(f"the temporary file of {option}", str(outputs.unfinished_path(name)))


def check(reads: Sequence[FileUse], writes: Sequence[FileUse]) -> None:
    """Raise `InvalidInput` if a file would be both read and written, or written twice."""
    for read, written in product(reads, writes):
        if _same(read, written, _matters_to_readers):
            raise InvalidInput(
                f"{written} and {read} are the same file, which would be overwritten; choose"
                " another output file"
            )
    for one, other in combinations(writes, 2):
        if _same(one, other, _matters_to_writers):
            raise InvalidInput(f"{one} and {other} are the same file; choose another name")


def _same(one: FileUse, other: FileUse, matters: Callable[[os.stat_result], bool]) -> bool:
    first, second = _locate(one), _locate(other)
    if isinstance(first, os.stat_result) and isinstance(second, os.stat_result):
        return os.path.samestat(first, second) and matters(first)
    if (
        isinstance(first, _NewFile)
        and isinstance(second, _NewFile)
        and first.folder == second.folder
    ):
        return first.name == second.name or (
            _normalized(first.name) == _normalized(second.name) and _ignores_case(other)
        )
    return False


def _matters_to_readers(found: os.stat_result) -> bool:
    """Return whether writing to a file changes what is read from it; false for terminals."""
    return not stat.S_ISCHR(found.st_mode) and not stat.S_ISSOCK(found.st_mode)


def _matters_to_writers(found: os.stat_result) -> bool:
    return not stat.S_ISCHR(found.st_mode) or found.st_rdev != Path(os.devnull).stat().st_rdev


def _locate(use: FileUse) -> os.stat_result | _NewFile | None:
    """Return the file, or where it would be created; None if that place does not exist."""
    try:
        if use.descriptor is not None:
            return os.fstat(use.descriptor)
        try:
            return Path(use.name).stat()
        except FileNotFoundError:
            path = outputs.resolve(use.name)
            folder = path.parent.stat()
            return _NewFile((folder.st_dev, folder.st_ino), path.name)
    except FileNotFoundError:
        return None
    except OSError as error:
        if use.descriptor is not None:  # the descriptor is closed
            return None
        raise InvalidInput(f"{use.name}: {error.strerror}") from error


def _normalized(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _ignores_case(use: FileUse) -> bool:
    """Return whether the file system there ignores case, by creating a file."""
    folder = outputs.resolve(use.name).parent
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".Rerankq-") as probe:
        return (folder / Path(probe.name).name.swapcase()).exists()
