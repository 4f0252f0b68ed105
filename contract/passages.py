"""Define how documents are cut into passages, and how their scores follow from those."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from contract.errors import InvalidInput
from contract.records import Record
from contract.validation import describe

#: The maximum number of passages of a document; what follows them is not read.
MOST_PASSAGES = 1_000
#: The shortest passage, in tokens.
LEAST_TOKENS = 8
#: Bytes of a token in UTF-8, to estimate the number of passages without a tokenizer. In ten
#: languages, multilingual tokenizers had 0.6 to 1.6 times as many tokens. By characters, it would
#: be 0.9 to 3 times as many, because a character of Chinese is often a token.
BYTES_PER_TOKEN = 4

Aggregate = Literal["max", "mean-top2", "first"]
#: The names that `aggregate` takes, the default first.
AGGREGATES: tuple[Aggregate, ...] = ("max", "mean-top2", "first")


class Passages(Record):
    """The length of passages, and the use of their scores."""

    #: The maximum length of a passage in tokens of the model's tokenizer.
    tokens: int = Field(ge=LEAST_TOKENS, le=1_000_000)
    #: The number of tokens from the start of a passage to the start of the next one. If it is less
    #: than `tokens`, passages overlap.
    stride: int = Field(ge=1, le=1_000_000)
    #: The document's score: that of its best passage, the mean of the two best, or that of the
    #: first passage, which is then the only one that is scored.
    aggregate: Aggregate = "max"

    @model_validator(mode="before")
    @classmethod
    def _fill_stride(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and data.get("stride") is None:
            return {**data, "stride": default_stride(data.get("tokens"))}
        return data

    @model_validator(mode="after")
    def _check_stride(self) -> Self:
        if self.stride > self.tokens:
            raise ValueError(
                f"stride must be at most tokens ({self.tokens}), so that no text is left out"
            )
        if 8 * self.stride < self.tokens:
            raise ValueError(
                f"stride must be at least an eighth of tokens ({-(-self.tokens // 8)}), so that a"
                " text is not scored many times"
            )
        return self

    @classmethod
    def parse(cls, given: object) -> Passages | None:
        """Return the passages of an option: a number of tokens, a dict or a record; None is none.

        Raises `InvalidInput`.
        """
        if given is None or isinstance(given, Passages):
            return given
        data = given if isinstance(given, Mapping) else {"tokens": given}
        try:
            return cls.model_validate(data, strict=True)
        except ValidationError as error:
            raise InvalidInput(f"passages: {describe(error)}") from error

    @property
    def key(self) -> str:
        """The settings as a short text that others do not have."""
        return f"{self.tokens}/{self.stride}/{self.aggregate}"

    def estimate(self, text: str) -> int:
        """Return about how many passages of a text are scored, at least 1."""
        size_bytes = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
        rest = size_bytes // BYTES_PER_TOKEN - self.tokens
        if rest <= 0 or self.aggregate == "first":
            return 1
        return min(1 + -(-rest // self.stride), MOST_PASSAGES)


def default_stride(tokens: object) -> object:
    """Return the stride for passages of this length: half of it."""
    return -(-tokens // 2) if isinstance(tokens, int) else tokens


class Passage(Record):
    """The passage that a document's score is from: `text[begin:end]` of its text."""

    #: Its number among the document's passages, from 0.
    index: int
    #: Its place in the text of the document, in characters.
    begin: int
    end: int
    #: The number of passages of the document that were scored.
    count: int


#: The index, the begin, the end and the count of a passage, and 1 if it is shortened.
PassageRow = tuple[int, int, int, int, int]
#: The columns of passages, in the order of the fields of a `Passage`.
PASSAGE_FIELDS = ("indexes", "begins", "ends", "counts")


class PassageColumns(Record):
    """The passages of ranked documents, a list for each field; documents have them or none does."""

    indexes: list[int]
    begins: list[int]
    ends: list[int]
    counts: list[int]
    #: 1 for each document whose passages are shorter than requested, because of a long query.
    shortened: list[int]

    def __len__(self) -> int:
        return len(self.indexes)

    def columns(self) -> dict[str, list[int]]:
        """Return the columns by name."""
        return {name: getattr(self, name) for name in type(self).model_fields}

    def at(self, rows: slice | list[int]) -> PassageColumns:
        """Return the passages of these rows."""
        taken: dict[str, Any] = {
            name: column[rows] if isinstance(rows, slice) else [column[row] for row in rows]
            for name, column in self.columns().items()
        }
        return self.model_construct(**taken)

    def each(self) -> list[dict[str, int]]:
        """Return the passage of each document."""
        columns = (getattr(self, name) for name in PASSAGE_FIELDS)
        return [
            {"index": index, "begin": begin, "end": end, "count": count}
            for index, begin, end, count in zip(*columns, strict=True)
        ]

    def rows(self) -> list[PassageRow]:
        """Return the values of each document."""
        return list(zip(*self.columns().values(), strict=True))

    @classmethod
    def of_rows(cls, rows: Sequence[PassageRow]) -> PassageColumns:
        """Return the columns of these rows."""
        columns = map(list, zip(*rows, strict=True)) if rows else ([] for _ in cls.model_fields)
        named: dict[str, Any] = dict(zip(cls.model_fields, columns, strict=True))
        return cls.model_construct(**named)

    @classmethod
    def of(cls, passages: list[Passage | None]) -> PassageColumns | None:
        """Return the columns of these passages; None if one is missing."""
        found = [each for each in passages if each is not None]
        if not found or len(found) < len(passages):
            return None
        return cls.of_rows([(each.index, each.begin, each.end, each.count, 0) for each in found])

    @model_validator(mode="after")
    def _check(self) -> Self:
        if any(len(column) != len(self) for column in self.columns().values()):
            raise ValueError("the columns of passages must have equal lengths")
        return self
