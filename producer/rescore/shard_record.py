"""Describe the output of a shard in a file next to it, so that all shards can be merged.

The first line is an object with what must be the same in all shards, and digests of the files. Each
further line has a query of the shard, in the order of the input. It has the query's place in the
input of all shards, and the number of its ranked documents, which is 0 if it failed.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import ValidationError
from pydantic_core import from_json

from contract.errors import InvalidInput
from contract.jobs import Record
from contract.validation import describe
from producer.files.outputs import NEW_FILE_MODE, atomic_file, resolve, sibling_path
from producer.rescore.manifest import InputDigests

#: The place of a query in the input, and the number of its ranked documents.
RankedQuery = tuple[int, int]


class FileDigest(Record):
    """A file that a shard has written."""

    #: Its path, from the folder of the shard's output.
    path: str
    bytes: int
    sha256: str

    @classmethod
    def of(cls, name: str, output: str) -> Self:
        """Return the digest of a file. Raises `OSError`."""
        path = resolve(name)
        with path.open("rb") as file:
            return cls(
                path=os.path.relpath(path, resolve(output).parent),
                bytes=os.fstat(file.fileno()).st_size,
                sha256=hashlib.file_digest(file, "sha256").hexdigest(),
            )


class ShardRecord(Record):
    """The first line."""

    version: Literal[1] = 1
    number: int
    count: int
    #: Digests of the input of all shards.
    inputs: InputDigests
    #: Everything else that affects the output, by the names of `ScoringSettings`.
    settings: dict[str, Any]
    #: The format of the output, as in `--format`.
    format: str
    output: FileDigest
    #: Missing without `--results`, or if that was not a regular file.
    results: FileDigest | None
    #: The requested model of the first result, and what the results say about each model: see
    #: `producer.rescore.manifest.Manifest`.
    model_requested: str | None
    max_lengths: dict[str, int]
    revisions: dict[str, str]
    prompts: dict[str, str | None]
    queries: int
    downgraded_queries: int
    #: The number of failed queries by the code of the failure.
    failed: dict[str, int]
    first_failure: str | None

    @property
    def words(self) -> str:
        """Return the shard for a message."""
        return f"shard {self.number} of {self.count}"

    @property
    def can_be_retried(self) -> bool:
        """Return whether the shard keeps its journal, so that some queries can be scored again."""
        return bool(self.failed or self.downgraded_queries)

    def save(self, output: str, queries: Iterable[RankedQuery], mode: int = NEW_FILE_MODE) -> None:
        """Write the file of an output in one step. Raises `OSError`."""
        with atomic_file(str(record_path(output)), mode) as file:
            file.write(self.model_dump_json().encode() + b"\n")
            file.writelines(b"[%d,%d]\n" % each for each in queries)

    @classmethod
    def load(cls, output: str) -> Self | None:
        """Return the record of an output; None if there is none. Raises `InvalidInput`."""
        path = record_path(output)
        try:
            with path.open("rb") as file:
                return cls.model_validate_json(file.readline())
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise InvalidInput(f"{path}: {error.strerror}") from error
        except ValidationError as error:
            raise InvalidInput(
                f"{path}: not the record of a shard of this version ({describe(error)})"
            ) from error


@contextmanager
def ranked_queries(output: str) -> Iterator[Iterator[RankedQuery]]:
    """Yield the queries of an output's record, which are read as they are needed.

    Raises `InvalidInput` if the record is damaged.
    """
    path = record_path(output)

    def parsed() -> Iterator[RankedQuery]:
        place = 0
        for line in lines:
            try:
                before, (place, documents) = place, from_json(line)
                if not (line.endswith(b"\n") and before < place and documents >= 0):
                    raise ValueError
            except (TypeError, ValueError) as error:
                raise InvalidInput(
                    f"{path}: damaged; run the command of its shard again"
                ) from error
            yield place, documents

    with path.open("rb") as lines:
        lines.readline()
        yield parsed()


def record_path(output: str) -> Path:
    """Return the path of an output's record."""
    return sibling_path(output, ".shard.jsonl")
