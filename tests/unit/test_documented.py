"""The output that pages show is the printed one, except for what differs from run to run."""

from __future__ import annotations

import re

from tests import documented

TUTORIAL = "docs/tutorial.md"
DOCKER = "docs/guides/docker.md"


def same(shown: str, printed: str) -> bool:
    return documented.matches(documented.comparable(shown), documented.comparable(printed))


def test_times_speeds_ports_passwords_and_ids_may_differ() -> None:
    assert same(
        "scored 2,500 pairs in 1.8 s (1,408 pairs/s)", "scored 2,500 pairs in 12 s (9 pairs/s)"
    )
    assert same("http://rerankq:abc@127.0.0.1:1", "http://rerankq:d_f@127.0.0.1:22")
    assert same(
        "job 8f5ace58-163a-4175-becd-f4cab204ca27", "job 00000000-163a-4175-becd-f4cab204ca27"
    )


def test_all_other_figures_and_words_must_not() -> None:
    assert not same("reranked  0.7454", "reranked  0.7444")
    assert not same("50 queries, 2,500 pairs", "50 queries, 2,501 pairs")
    assert not same("wrote a", "wrote a\nwrote b")
    assert not same("wrote a\nwrote b", "wrote a")


def test_dots_are_in_place_of_any_lines() -> None:
    assert same("first\n...\nlast", "first\nlast")
    assert same("first\n...\nlast", "first\n1\n2\nlast")
    assert not same("first\n...", "0\nfirst")


def test_a_command_goes_on_behind_a_backslash_and_to_the_end_of_its_input() -> None:
    texts = [each.text for each in documented.commands("docs/tutorial.md")]
    assert any(text.startswith("cat > ") and text.endswith("\nEND") for text in texts)
    assert any("\\\n" in text for text in texts)


def test_commands_in_containers_show_the_output_of_those_in_the_tutorial() -> None:
    for start in ("rerankq submit", "rerankq rescore --corpus"):
        (here,) = (each for each in documented.commands(TUTORIAL) if each.text.startswith(start))
        (there,) = (each for each in documented.commands(DOCKER) if _as_here(each.text, start))

        assert there.shown
        assert documented.missing(there.shown, "\n".join(here.shown)) == set()


def _as_here(text: str, start: str) -> bool:
    return re.sub(r"^docker-compose run --rm( cli)?", "rerankq", text).startswith(start)
