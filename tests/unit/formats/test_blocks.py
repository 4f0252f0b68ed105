"""Lines that are parsed many at a time give the same records and errors as single lines."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from producer.formats.records import InvalidLines
from producer.formats.run_line import RunLine
from producer.formats.trec_run import read_run
from tests.unit.formats.samples import Reader, read, texts, write

RUN_LINES = [
    *(f"q{n // 9} Q0 d{n} {n} {score} tag" for n, score in enumerate(("1", "-2.5", "1e-9", "007"))),
    "q\u00e9 Q0 \u65e5\u672c 1 0.5 tag",
]
ODD_RUN_LINES = [
    *("q1 Q0 d1 1 2.5", "q1  Q0 d1 1 2.5 tag", "q1 Q0 d1 1 2.5 two words", " q1 Q0 d1 1 2.5 tag"),
    *("q1 Q0 d1 1.0 2.5 tag", "q1 Q0 d1 +1 2.5 tag", "q1 Q0 d1 12345678901 2.5 tag"),
    *("q1 Q0 d1 1_0 2.5 tag", "q1 Q0 d1 1 2_5 tag", "q1 Q0 d1 1 nan tag", "q1 Q0 d1 1 inf tag"),
    *("q1\u00a0 Q0 d1 1 2.5 tag", "q1 Q0 d\x0b1 1 2.5 tag", "q1 Q0 d1 1 2 9.5", "q1  d1 1 2 tag"),
    *("q1 Q0 d1 \u00b2 1 t", "q1 Q0 d1 \u0663 1 t", "q1 Q0 d1 1 0x10 t", "q1\tQ0 d1 1 2.5 tag"),
    *("q1\tQ0\td1\t1\t2.5\ttag", "q1\tQ0\t d1 \t 1\t2.5 \ta tag", "q1\tQ0\td 1\t1\t2.5\ttag"),
    *("", " \t", "\ufeffq1 Q0 d1 1 2.5 tag", "q1 Q0 d1 1 2.5 tag\r", "q1 Q0 d1\r 1 2.5 tag", "no"),
]
TEXT_LINES = [
    json.dumps({"_id": f"d{n}", "title": "", "text": text})
    for n, text in enumerate(("one", " two ", "", 'a "quote"', "\u65e5\u672c", "\u2028", "\u0000"))
]
ODD_TEXT_LINES = [
    *('{"_id": 7, "title": "", "text": "t"}', '{"_id": true, "title": "", "text": "t"}'),
    *('{"_id": "d", "title": null, "text": "t"}', '{"_id": "d", "title": "T", "text": " t"}'),
    *('{"_id": "d", "title": "", "text": null}', '{"_id": "d", "title": 1, "text": "t"}'),
    *('{"_id": "d", "_id": "e", "title": "", "text": "t"}', '{"_id": "d", "text": "t"}'),
    *(
        '{"_id": "d", "title": "", "title": "T", "text": "t"}',
        '{"_id": "d e", "title": "", "text": "t"}',
    ),
    *('{"_id": null, "id": "e", "title": "", "text": "t"}', '{"docid": "d", "contents": "t"}'),
    *(
        '{"_id": "d", "title": "", "text": "\\ud800"}',
        '{"_id": "d\\u0000", "title": "", "text": "t"}',
    ),
    *('{"_id": "d", "title": "", "text": "t"},', '{"_id": "d", "title": "", "text": "t"', "[1]"),
    *(
        '{"_id": "d", "title": "", "text": "' + "x" * 101 + '"}',
        '{"_id": "d", "title": "", "text": NaN}',
    ),
    *("d\ttext", "", "\ufeff" + TEXT_LINES[0], TEXT_LINES[0] + "\r", "no"),
]
COLUMN_LINES = ["d1\tone", "d2\t two ", "\u65e5\ttext", "d4\t"]
ODD_COLUMN_LINES = [
    *("d 1\tone", "\tone", "d1", "d1\tone\ttwo", "d1\thttp://x\ttitle\tbody", '{"a\t": 1}'),
    *("d1\t" + "x" * 101, "", "d1\tone\r", "d1\ta\rd2\tb"),
]


def outcome(reader: Reader, path: str) -> tuple[list[tuple[int, Any]], InvalidLines]:
    bad = InvalidLines(skip=True)
    return list(reader(path, bad)), bad


def without_place(bad: InvalidLines, path: str, moved: int) -> list[str]:
    """Return the messages about lines, whose numbers are `moved`, without the name of the file."""
    found = []
    for each in bad.examples:
        number, message = each.removeprefix(f"{path}:").split(":", 1)
        found.append(f"{int(number) - moved}:{message}")
    return found


def check_same(folder: Path, reader: Reader, lines: list[str], end: str) -> None:
    """Read lines in a block, and one by one, as all lines are until the first record."""
    content = end.join(lines)
    block, single = write(folder / "block", content), write(folder / "single", f"\n{content}")
    in_block, bad = outcome(reader, block)
    one_by_one, bad_single = outcome(reader, single)
    assert in_block == [(number - 1, record) for number, record in one_by_one]
    assert [type(record) for _, record in in_block] == [type(record) for _, record in one_by_one]
    assert bad.count == bad_single.count
    assert without_place(bad, block, 0) == without_place(bad_single, single, 1)


every_kind = pytest.mark.parametrize(
    ("reader", "usual", "odd"),
    [
        (read_run, RUN_LINES, ODD_RUN_LINES),
        (texts, TEXT_LINES, ODD_TEXT_LINES),
        (texts, COLUMN_LINES, ODD_COLUMN_LINES),
    ],
    ids=["run", "JSON", "columns"],
)


@every_kind
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_block_gives_the_same_as_its_lines_whatever_one_of_them_is(
    tmp_path: Path, reader: Reader, usual: list[str], odd: list[str], end: str
) -> None:
    for each in odd:
        check_same(tmp_path, reader, [*usual, each, *usual], end)
        check_same(tmp_path, reader, [usual[0], each], end)
        check_same(tmp_path, reader, [usual[0], each, each, ""], end)


@every_kind
@pytest.mark.parametrize("seed", range(5))
def test_a_block_gives_the_same_as_its_lines_whatever_several_of_them_are(
    tmp_path: Path, reader: Reader, usual: list[str], odd: list[str], seed: int
) -> None:
    chance = random.Random(seed)
    lines = [usual[0], *chance.choices([*usual, *chance.choices(odd, k=seed)], k=40)]
    check_same(tmp_path, reader, lines, chance.choice(["\n", "\r\n"]))


def test_a_file_of_many_blocks_is_read_to_its_last_line(tmp_path: Path) -> None:
    lines = [RunLine(f"q{n // 100}", f"d{n}", n % 100, n / 7) for n in range(20_000)]
    content = "".join(f"{q} Q0 {d} {rank} {score!r} tag\n" for q, d, rank, score in lines)
    assert read(read_run, tmp_path / "run", content) == lines
    path = str(tmp_path / "run")
    assert [number for number, _ in read_run(path, InvalidLines())] == list(range(1, 20_001))


def test_a_line_may_be_longer_than_a_block(tmp_path: Path) -> None:
    words = "word " * 60_000
    content = f"{TEXT_LINES[0]}\n{json.dumps({'_id': 'long', 'title': '', 'text': words})}\n"
    bad = InvalidLines(skip=True)
    assert [number for number, _ in texts(write(tmp_path / "corpus", content), bad)] == [1]
    assert "has 299,999 characters" in bad.examples[0]
