"""Find the parts of a run, and check that they are all complete parts of the same run."""

from __future__ import annotations

import resource
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from contract.errors import InvalidInput
from contract.models import ModelName
from contract.printable import counted
from producer.files.conflicts import FileUse
from producer.files.outputs import resolve
from producer.files.streams import is_stream
from producer.rescore.journal import journal_path
from producer.rescore.manifest import INPUT_NOUNS, setting_differences
from producer.rescore.resume import manifest_path
from producer.rescore.shard_record import FileDigest, ShardRecord, record_path

#: The number of missing shards that a message names.
_SHOWN = 5
#: Files that are open in addition to those of the parts.
_OTHER_FILES = 64


@dataclass(frozen=True)
class Part:
    """The output of a shard, with its record and the paths of its files."""

    name: str
    record: ShardRecord
    output: str
    #: Missing if results are not merged, or if the shard has none.
    results: str | None


def load(names: Sequence[str], *, with_results: bool) -> list[Part]:
    """Return the parts by number. Raises `InvalidInput` unless they are all parts of one run."""
    parts = sorted(
        (_part(name, with_results) for name in names), key=lambda each: each.record.number
    )
    _check_numbers(parts)
    for part in parts[1:]:
        if differing := list(_differences(parts[0].record, part.record)):
            raise InvalidInput(
                f"{part.name} differs from {parts[0].name} in {', '.join(differing)}; merge the"
                " shards of one run"
            )
    if not any(part.record.queries for part in parts):
        raise InvalidInput("no query with candidates is in any of these shards")
    _allow_open_files(2 * len(parts) + _OTHER_FILES)
    return parts


def uses(parts: Iterable[Part]) -> Iterator[FileUse]:
    """Yield the files of all parts."""
    for part in parts:
        yield FileUse("PART", part.output)
        yield FileUse("the record of PART", str(record_path(part.name)))
        if part.results:
            yield FileUse("the results of PART", part.results)


def check_contents(parts: Iterable[Part]) -> None:
    """Raise `InvalidInput` if a file is not the one that its shard has written."""
    for part in parts:
        _check_content(part.output, part.record.output)
        if part.results and part.record.results:
            _check_content(part.results, part.record.results)


def _part(name: str, with_results: bool) -> Part:
    if is_stream(name):
        raise InvalidInput(f"{name}: a part must be a regular file, next to its record")
    record = ShardRecord.load(name)
    unfinished = next(filter(Path.exists, (manifest_path(name), journal_path(name))), None)
    if unfinished and not (record and record.can_be_retried):
        raise InvalidInput(
            f"{name}: its run is not complete, because there is {unfinished}; run the command of"
            " this shard again"
        )
    if record is None:
        raise InvalidInput(
            f"{name}: there is no {record_path(name).name} next to it; run the command of this"
            " shard to its end, and keep both files together"
        )
    if not with_results:
        return Part(name, record, name, None)
    if record.results is None:
        raise InvalidInput(f"{name}: {record.words} was scored without --results")
    return Part(name, record, name, _path_of(name, record.results))


def _path_of(name: str, found: FileDigest) -> str:
    """Return the path of a file; it may have been moved into the folder of its part."""
    folder = resolve(name).parent
    beside = folder / Path(found.path).name
    return str(folder / found.path if (folder / found.path).exists() else beside)


def _check_numbers(parts: Sequence[Part]) -> None:
    first = parts[0]
    for before, part in pairwise(parts):
        if part.record.count != first.record.count:
            raise InvalidInput(
                f"{part.name} is {part.record.words}, but {first.name} is {first.record.words}"
            )
        if part.record.number == before.record.number:
            raise InvalidInput(f"{before.name} and {part.name} are both {part.record.words}")
    present = {part.record.number for part in parts}
    missing = [each for each in range(1, first.record.count + 1) if each not in present]
    if missing:
        numbers = ", ".join(map(str, missing[:_SHOWN])) + (", ..." if missing[_SHOWN:] else "")
        raise InvalidInput(
            f"{counted(len(missing), 'shard')} of {first.record.count} not given: {numbers}"
        )


def _differences(one: ShardRecord, other: ShardRecord) -> Iterator[str]:
    yield from setting_differences(one.settings, other.settings)
    for name, noun in INPUT_NOUNS.items():
        if getattr(one.inputs, name) != getattr(other.inputs, name):
            yield noun
    if one.format != other.format:
        yield f"--format ({one.format} -> {other.format})"
    yield from _model_differences(one, other)


def _model_differences(one: ShardRecord, other: ShardRecord) -> Iterator[str]:
    """Yield what also stops a run: see `producer.rescore.outcomes`."""
    first, second = one.model_requested, other.model_requested
    if first and second and ModelName.parse(first).base != ModelName.parse(second).base:
        yield f"the model ({first} -> {second})"
    kinds: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "revision": (one.revisions, other.revisions),
        "maximum length": (one.max_lengths, other.max_lengths),
        "prompt": (one.prompts, other.prompts),
    }
    for kind, (before, after) in kinds.items():
        for model in before.keys() & after.keys():
            if before[model] != after[model]:
                yield f"the {kind} of {model} ({before[model]} -> {after[model]})"


def _check_content(path: str, recorded: FileDigest) -> None:
    try:
        found = FileDigest.of(path, path)
    except OSError as error:
        raise InvalidInput(f"{path}: {error.strerror}") from error
    if (found.bytes, found.sha256) != (recorded.bytes, recorded.sha256):
        raise InvalidInput(
            f"{path}: changed after its shard wrote it ({recorded.bytes:,} bytes then,"
            f" {found.bytes:,} now); run the command of the shard again"
        )


def _allow_open_files(number: int) -> None:
    """Raise the limit of open files of this process, if it may be raised."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < number:
        allowed = number if hard == resource.RLIM_INFINITY else min(number, hard)
        with suppress(ValueError, OSError):  # opening the files will report the reason
            resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
