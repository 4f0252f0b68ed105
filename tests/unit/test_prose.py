"""The checks of prose find sentences that are hard to read, and pass plain ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.prose import passages, rules, sources

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


def test_docstrings_and_comments_are_passages(tmp_path: Path) -> None:
    source = tmp_path / "module.py"
    source.write_text(
        '"""One line\nand another.\n\n    table  of columns\n\n- an item\n"""\n'
        "#: Seconds of `x`\n#: in all.\nX = 1  # why\nY = 2  # noqa: E501\n"
    )

    found = [
        (each.place, each.text)
        for read in (sources.docstrings, sources.comments)
        for each in read(source, "module.py")
    ]

    assert found == [
        ("module.py:1", "One line and another."),
        ("module.py:6", "an item"),
        ("module.py:8", "Seconds of code in all."),
        ("module.py:10", "why"),
    ]


def test_comments_of_lua_are_passages_without_what_they_use(tmp_path: Path) -> None:
    script = tmp_path / "script.lua"
    script.write_text("-- Ends\n-- a job.\n--\n-- It returns 1.\n-- uses: clock\nreturn 1\n")

    found = [(each.place, each.text) for each in sources.lua_comments(script, "script.lua")]

    assert found == [("script.lua:1", "Ends a job."), ("script.lua:4", "It returns 1.")]


@pytest.mark.parametrize(
    "source",
    [
        '"""How scores are computed."""',
        'class Score:\n    """What a model returns."""',
        'class Score:\n    @property\n    def ended(self):\n        """Whether it ended."""',
    ],
)
def test_a_docstring_without_a_subject_is_found(source: str, tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(source + "\n")
    (fault,) = sources.openings(path, "module.py")
    assert "the name of a thing" in fault


@pytest.mark.parametrize("opening", ["Gives the score.", "Whether it ended.", "the score"])
def test_a_docstring_of_a_function_that_begins_without_a_verb_is_found(
    opening: str, tmp_path: Path
) -> None:
    source = tmp_path / "module.py"
    source.write_text(f'def score():\n    """{opening}"""\n')

    (fault,) = sources.openings(source, "module.py")

    assert fault.startswith("module.py:1: begin with a verb")


@pytest.mark.parametrize(
    "text",
    [
        'def score():\n    """Return it."""\n',
        '@property\ndef end():\n    """The time of the end."""\n',
    ],
)
def test_verbs_and_noun_phrases_of_properties_pass(text: str, tmp_path: Path) -> None:
    source = tmp_path / "module.py"
    source.write_text(text)
    assert list(sources.openings(source, "module.py")) == []
