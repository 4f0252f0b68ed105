"""The checks of prose find what does not read well, and pass what does."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.prose import passages, rules

AVOIDED = rules.phrases()


def faults_of(text: str) -> list[str]:
    return list(rules.faults(passages.Passage("page.md:1", text), AVOIDED))


@pytest.mark.parametrize(
    "text",
    [
        "Who wants the model asked for or nothing, says code.",
        "Settings stand in code.",
        "The worker gives the scores.",
        "What it shows: the queue.",
        "What became of the wish to begin an attempt.",
        "The result is to be read once.",
        "A run of one's own.",
        " ".join(["word"] * 31) + ".",
    ],
)
def test_a_quaint_phrase_or_a_long_sentence_is_found(text: str) -> None:
    (fault,) = faults_of(text)
    assert fault.startswith("page.md:1: ")


@pytest.mark.parametrize(
    "text",
    [
        "To fail instead of falling back to a smaller model, pass code.",
        "Who may use Redis?",
        " ".join(["word"] * 30) + ". " + " ".join(["Word"] * 30) + ".",
    ],
)
def test_plain_sentences_pass(text: str) -> None:
    assert faults_of(text) == []


def test_code_is_no_prose_and_cells_and_items_are_passages_of_their_own(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# Title\n\nOne line\nand another, with `Who wants` and [a link](there.md).\n"
        "\n- first\n- second\n\n```console\n$ what stands here\n```\n"
        "\n| left | right |\n|---|---|\n"
    )

    found = [(each.place, each.text) for each in passages.of_page(page, "page.md")]

    assert found == [
        ("page.md:1", "Title"),
        ("page.md:3", "One line and another, with code and a link."),
        ("page.md:6", "first"),
        ("page.md:7", "second"),
        ("page.md:13", "left"),
        ("page.md:13", "right"),
    ]


def test_each_phrase_comes_with_advice() -> None:
    assert all(phrase.advice for phrase in AVOIDED)
