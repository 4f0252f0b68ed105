"""Foreign text cannot move a terminal's cursor, forge a line, or change the reading direction."""

from __future__ import annotations

import json

import pytest

from contract.printable import counted, reason_of, visible, visible_json

HARMFUL = {
    "escape": "\x1b[31m",
    "bell": "\a",
    "C1 control": "\x9b31m",
    "delete": "\x7f",
    "null": "\0",
    "carriage return": "\r",
    "newline": "\n",
    "tab": "\t",
    "override": "\u202egpj.exe",
    "isolate": "\u2066",
    "byte order mark": "\ufeff",
    "zero-width space": "\u200b",
    "line separator": "\u2028",
    "tag": "\U000e0041",
    "surrogate": "\ud800",
}


@pytest.mark.parametrize("text", HARMFUL.values(), ids=HARMFUL)
def test_an_invisible_character_is_shown_as_its_escape_sequence(text: str) -> None:
    shown = visible(f"a{text}b")

    assert shown.isprintable()
    assert text[0] not in shown
    assert "\\" in shown
    assert shown.startswith("a")
    assert shown.endswith("b")


@pytest.mark.parametrize("text", ["", "plain", "naïve 語 😀 \u00a0\u3000", "\\x1b", "[bold]"])
def test_what_can_be_seen_stays_as_it_is(text: str) -> None:
    assert visible(text) == text
    assert json.loads(visible_json(json.dumps(text, ensure_ascii=False))) == text


def test_what_is_to_be_kept_is_kept() -> None:
    assert visible("a\n\x1bb", keep="\n") == "a\n\\x1bb"


@pytest.mark.parametrize("text", HARMFUL.values(), ids=HARMFUL)
@pytest.mark.parametrize("ascii_only", [False, True])
def test_json_says_the_same_and_shows_it(text: str, ascii_only: bool) -> None:
    shown = visible_json(json.dumps(f"é{text}", ensure_ascii=False), ascii_only=ascii_only)

    assert shown.isprintable()
    assert shown.isascii() == ascii_only
    assert json.loads(shown) == f"é{text}"


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [
        (0, ("pair",), "0 pairs"),
        (1, ("pair",), "1 pair"),
        (2_000, ("pair",), "2,000 pairs"),
        (1, ("child", "children"), "1 child"),
        (2, ("child", "children"), "2 children"),
    ],
)
def test_a_noun_agrees_with_its_number(number: int, noun: tuple[str, ...], text: str) -> None:
    assert counted(number, *noun) == text


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(28, "No space left on device"), "[Errno 28] No space left on device"),
        (ValueError("  two\n lines\tand a tab \n"), "two lines and a tab"),
        (TimeoutError(), "TimeoutError"),
        (RuntimeError(" \n"), "RuntimeError"),
    ],
)
def test_the_reason_of_an_error_is_one_line_and_never_empty(error: Exception, reason: str) -> None:
    assert reason_of(error) == reason
