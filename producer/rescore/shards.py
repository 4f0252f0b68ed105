"""Split a run by query, so that several producers each score a part of it.

The part that has a query depends on the query's id and on the number of parts, and on nothing else.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Self

from pydantic_core import to_json

from contract.errors import InvalidInput
from producer.formats.needed import Needed

#: The maximum number of parts of a run. To merge them, all are open at the same time.
MOST_SHARDS = 1_000
_FORM = re.compile(r"([0-9]{1,9})/([0-9]{1,9})")
_DIGEST_BYTES = 8


@dataclass(frozen=True)
class Shard:
    """A part of a run: its number, from 1, and the number of all parts."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the shard that "3/16" means. Raises `InvalidInput`."""
        found = _FORM.fullmatch(text)
        if found is None:
            raise InvalidInput(
                f"{text!r} is not a shard; pass its number and the number of all shards, such as"
                " 3/16"
            )
        number, count = map(int, found.groups())
        if not 1 <= count <= MOST_SHARDS:
            raise InvalidInput(f"{text!r}: a run has 1 to {MOST_SHARDS:,} shards")
        if not 1 <= number <= count:
            hint = "; the first shard is 1" if number == 0 else ""
            raise InvalidInput(f"{text!r}: the shards of this run are 1 to {count}{hint}")
        return cls(number, count)

    def has(self, query_id: str) -> bool:
        """Return whether a query belongs to this part."""
        found = hashlib.blake2b(query_id.encode(), digest_size=_DIGEST_BYTES).digest()
        return int.from_bytes(found, "big") % self.count == self.number - 1

    def own(self, query_ids: Collection[str]) -> set[str]:
        """Return the queries that belong to this part."""
        return set(filter(self.has, query_ids))

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    @property
    def words(self) -> str:
        """Return the shard for a message."""
        return f"shard {self.number} of {self.count}"


class WholeInput:
    """Digests of the whole input, which are the same for all shards of a run.

    Text is digested as it is read, without parsing the records of other shards.
    """

    def __init__(self) -> None:
        names = ("queries", "candidates", "documents")
        self._digests = {name: hashlib.sha256() for name in names}
        #: Whether there is any query, of this shard or of another one.
        self.has_queries = False

    def needed(self, name: str, which: Callable[[Collection[str]], Collection[str]]) -> Needed:
        """Return how the input of this name is read by a shard that needs some of its ids."""
        return Needed(which, self._digests[name].update)

    def add_query(self, *values: object) -> None:
        """Add a query with its text."""
        self._digests["queries"].update(to_json(values))

    def digests(self) -> dict[str, str]:
        """Return the digests by the names of `producer.rescore.manifest.InputDigests`."""
        return {name: each.hexdigest() for name, each in self._digests.items()}
