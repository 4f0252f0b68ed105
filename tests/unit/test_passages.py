"""Long documents are cut into passages, and a document's score follows from theirs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from sentence_transformers import CrossEncoder

from contract.errors import InvalidInput
from contract.passages import MOST_PASSAGES, Aggregate, Passages
from tests.unit import odd_models
from tests.unit.predict_scores import fast_engine
from worker.engine import load, pieces
from worker.engine.gpu_engine import GpuEngine
from worker.engine.passages import Cut, Cutter
from worker.engine.predict_engine import PredictEngine
from worker.engine.protocol import Engine
from worker.engine.scorer import Scorer
from worker.engine.stub import StubEngine
from worker.engine.varlen_functions import padded

#: Loads a model of `odd_models` by its name, with a prompt.
OddModel = Callable[[str, str | None], Scorer]

QUERY = "Which editor changes the tags of music files?"
ANSWER = "EasyTAG is an editor that changes the tags of music files."
#: Nine words in a sentence, of one token each.
FILLER = "The cat sat on the mat near the door. "
#: About 3,000 tokens in front of the answer.
FAR = f"{FILLER * 300}{ANSWER} {FILLER * 60}"
OTHER = f"The tags of some music files. {FILLER * 20}"


@pytest.fixture(scope="module", params=["fast", "predict", "gpu", "stub"])
def engine(request: pytest.FixtureRequest) -> Engine:
    if request.param == "stub":
        return StubEngine()
    bundled: CrossEncoder = request.getfixturevalue("bundled")
    made: dict[str, Any] = {
        "fast": fast_engine,
        "predict": lambda model: PredictEngine(model, 1),
        "gpu": lambda model: GpuEngine(model, padded()),
    }
    engine: Engine = made[request.param](bundled)
    return engine


@pytest.fixture(scope="module")
def scorer(engine: Engine) -> Scorer:
    return Scorer(engine, "model")


@pytest.fixture(scope="module")
def stub() -> Scorer:
    return Scorer(StubEngine(), "stub")


def passages(tokens: int = 128, stride: int | None = None, aggregate: Aggregate = "max") -> Any:
    return Passages.parse({"tokens": tokens, "stride": stride, "aggregate": aggregate})


def texts_of(cut: Cut, text: str) -> list[str]:
    return [text[begin:end] for begin, end in cut.bounds]


def test_a_sentence_at_token_3000_ranks_its_document_first_only_with_passages(
    scorer: Scorer,
) -> None:
    pairs = [(QUERY, OTHER), (QUERY, FAR)]
    other, far = scorer.score(pairs)
    assert far < other
    scored = scorer.score_pairs(pairs, passages=passages())
    assert scored.logits[1] > scored.logits[0]
    # The result says where it is
    assert scored.passages is not None
    index, begin, end, count, shortened = scored.passages.rows()[1]
    assert ANSWER in FAR[begin:end]
    assert 0 < index < count
    assert (shortened, sum(scored.truncated)) == (0, 0)
    # And that passage alone has the same score
    (alone,) = scorer.score([(QUERY, FAR[begin:end])])
    assert alone == pytest.approx(scored.logits[1], abs=1e-4)


def test_a_document_of_one_passage_scores_to_the_last_bit_as_without(scorer: Scorer) -> None:
    texts = [FILLER * count for count in range(12)] + ["", " \n", "x" * 50, "\u5b57" * 90]
    pairs = [(QUERY, text) for text in texts]
    plain, cut = scorer.score_pairs(pairs), scorer.score_pairs(pairs, passages=passages())
    assert cut.logits == plain.logits
    assert (cut.tokens, cut.unique_pairs) == (plain.tokens, plain.unique_pairs)
    assert cut.passages is not None
    assert cut.passages.rows() == [(0, 0, len(text), 1, 0) for text in texts]


@pytest.mark.parametrize("stride", [16, 64, 100, 128])
def test_passages_follow_each_other_at_the_stride_and_leave_no_word_out(
    engine: Engine, stride: int
) -> None:
    text = "".join(f"word {number} of them,\n" for number in range(400))
    cut = Cutter(engine, passages(128, stride)).cut(QUERY, text)
    words = pieces.words_of(text)
    covered = np.zeros(len(text), np.bool_)
    for begin, end in cut.bounds:
        covered[begin:end] = True
    assert all(
        covered[begin:end].all() for begin, end in zip(words.begins, words.ends, strict=True)
    )
    assert cut.unread == 0
    found = engine.pieces(text)
    before = np.concatenate([[0], np.cumsum(found.tokens)])
    starts = [before[np.searchsorted(found.begins, begin)] for begin, _ in cut.bounds]
    ends = [before[np.searchsorted(found.ends, end) + 1] for _, end in cut.bounds]
    assert all(b - a <= 128 for a, b in zip(starts, ends, strict=True))
    for (start, following), end in zip(pairwise(starts), ends, strict=False):
        assert following in (end, *range(start + stride, start + stride + pieces.MOST_OF_A_WORD))


def test_a_passage_ends_with_a_sentence_if_one_ends_in_its_last_tenth() -> None:
    sentence = "one two three four five. "
    for text, ends in (
        (sentence * 60, "five."),
        (sentence.replace(".", ' (so)!"') * 60, '(so)!"'),
        (sentence.replace(". ", "\n \n") * 60, "five"),
        (sentence.replace(".", "\u3002") * 60, "five\u3002"),
    ):
        cut = Cutter(StubEngine(), passages(59, 59)).cut(QUERY, text)
        assert len(cut.bounds) > 5
        assert {each.split()[-1] for each in texts_of(cut, text)} == {ends}
    # No sentence ends in the last tenth of these passages
    text = "one " * 45 + "two. " + "three " * 100
    assert len(texts_of(Cutter(StubEngine(), passages(60)).cut(QUERY, text), text)[0].split()) == 60


@pytest.mark.parametrize(
    ("text", "at_least"),
    [
        ("\u5b57" * 3_000, 20),
        ("\u4e00\u4e8c\u3002" * 1_000, 20),
        ("word\n" * 3_000, 20),
        ("." * 3_000, 20),
        ("a" * 30_000, 1),
        ("\u00e9\U0001f600" * 500, 1),
        ("\0" * 3_000, 1),
        ("x" * 90 + " " * 20_000 + "y " * 500, 2),
    ],
    ids=["cjk", "cjk-sentences", "lines", "dots", "one-word", "emoji", "nul", "spaces"],
)
def test_text_of_any_kind_is_cut_within_the_length(
    bundled: CrossEncoder, text: str, at_least: int
) -> None:
    for engine in (fast_engine(bundled), PredictEngine(bundled, 1)):
        scorer = Scorer(engine, "model")
        scored = scorer.score_pairs([(QUERY, text)], passages=passages())
        assert scored.passages is not None
        assert scored.passages.counts[0] >= at_least
        assert scored.truncated == [False]


def test_a_query_that_leaves_little_room_shortens_the_passages_and_says_so(scorer: Scorer) -> None:
    query = "the mat " * 210  # 420 of 512 tokens
    long, short = FILLER * 100, FILLER * 3
    scored = scorer.score_pairs([(query, long), (query, short)], passages=passages(256))
    assert scored.passages is not None
    assert scored.passages.shortened == [1, 0]
    assert scored.truncated == [False, False]
    # A query that is longer than the model reads is truncated, as without passages, and counted
    pair = ("the mat " * 400, long)
    scored, plain = scorer.score_pairs([pair], passages=passages(64)), scorer.score_pairs([pair])
    assert scored.truncated == [True]
    assert scored.passages is not None
    assert scored.passages.counts[0] > 1
    # Its lost part is counted once, and not for each passage
    assert 0 < scored.lost[0] < plain.lost[0]


def test_documents_are_scored_by_their_best_passages(stub: Scorer) -> None:
    text = f"{'none ' * 64}{'editor tags ' * 32}{'music ' * 64}{'editor ' * 64}"
    cut = Cutter(stub.engine, passages(64, 64)).cut(QUERY, text)
    scores = stub.score([(QUERY, each) for each in texts_of(cut, text)])
    assert len(scores) == 4

    def scored(aggregate: Aggregate) -> tuple[float, tuple[int, ...]]:
        found = stub.score_pairs([(QUERY, text)], passages=passages(64, 64, aggregate))
        assert found.passages is not None
        return found.logits[0], found.passages.rows()[0]

    best = sorted(scores)
    assert scored("max") == (best[-1], (1, *cut.bounds[1], 4, 0))
    assert scored("mean-top2") == ((best[-1] + best[-2]) / 2, (1, *cut.bounds[1], 4, 0))
    assert scored("first") == (scores[0], (0, *cut.bounds[0], 1, 0))


def test_what_no_passage_has_is_counted(stub: Scorer) -> None:
    words = 64 * (MOST_PASSAGES + 50)
    scored = stub.score_pairs([(QUERY, "word " * words)], passages=passages(64, 64))
    assert scored.passages is not None
    assert scored.passages.counts == [MOST_PASSAGES]
    assert scored.lost[0] == pytest.approx(64 * 50, rel=0.01)
    (first,) = stub.score_pairs([(QUERY, "word " * 1_000)], passages=passages(64, 64, "first")).lost
    assert first == pytest.approx(1_000 - 64, rel=0.01)


def test_equal_passages_are_scored_once(stub: Scorer) -> None:
    text = "word " * 640
    scored = stub.score_pairs([(QUERY, text), (QUERY, text)], passages=passages(64, 64))
    assert (scored.passages_scored, scored.unique_pairs) == (1, 1)
    assert scored.logits[0] == scored.logits[1]


def test_without_passages_the_lost_part_is_known(scorer: Scorer) -> None:
    text = FILLER * 400
    tokens = int(scorer.engine.pieces(text).tokens.sum())
    read = scorer.engine.room(QUERY)
    (lost,) = scorer.score_pairs([(QUERY, text)]).lost
    assert lost == pytest.approx(tokens - read, rel=0.02)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (7, "passages: tokens: must be at least 8"),
        ("256", "passages: tokens: must be a whole number, not a string"),
        (True, "passages: tokens: must be a whole number, not a boolean"),
        ({"stride": 4}, "passages: tokens: is required"),
        ({"tokens": 64, "stride": 65}, "passages: stride must be at most tokens (64)"),
        ({"tokens": 64, "stride": 7}, "passages: stride must be at least an eighth of tokens (8)"),
        ({"tokens": 64, "aggregate": "sum"}, "passages: aggregate: must be 'max', "),
        ({"tokens": 64, "length": 1}, "passages: length: unknown field"),
    ],
)
def test_wrong_settings_are_refused(given: object, message: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        Passages.parse(given)
    assert str(refused.value).startswith(message)


def test_the_number_of_passages_is_estimated_from_the_length_of_a_text() -> None:
    how = Passages.parse(256)
    assert how is not None
    assert [how.estimate("a" * chars) for chars in (0, 1_024, 1_100, 12_000)] == [1, 1, 2, 23]
    assert how.estimate("a" * 10**6) == MOST_PASSAGES
    first = Passages.parse({"tokens": 256, "aggregate": "first"})
    assert first is not None
    assert first.estimate("a" * 10**6) == 1


@pytest.mark.parametrize(
    "text", ["\u4e2d\u6587\u6587\u672c", "\u691c\u7d22\u3059\u308b", "\ud55c\uad6d\uc5b4\ubb38"]
)
def test_the_estimate_counts_a_character_of_chinese_japanese_or_korean_as_most_of_a_token(
    text: str,
) -> None:
    how = Passages(tokens=256, stride=128)
    # A token for each character or two, as BERT's and multilingual tokenizers have
    most, least = how.estimate("abcd" * 4_000), how.estimate("abcd" * 2_000)
    assert least < how.estimate(text * 1_000) < most
    # A text that JSON can hold and UTF-8 cannot
    assert how.estimate("\ud800" * 4_000) == how.estimate(text * 1_000)


def sizes(texts: Sequence[str]) -> list[int]:
    return [len(each) for each in texts]


def test_a_long_text_is_tokenized_in_parts_and_only_as_far_as_needed() -> None:
    seen: list[str] = []

    def read(text: str) -> pieces.Pieces:
        seen.append(text)
        return pieces.words_of(text)

    text = "word " * 200_000
    found, end = pieces.at_least(text, 50_000, read)
    assert max(sizes(seen)) <= pieces.CHARS_AT_ONCE
    assert 50_000 <= found.tokens.sum() < 80_000
    assert end < len(text)
    # No word is lost or cut between the parts
    whole = pieces.words_of(text[:end])
    assert np.array_equal(found.begins, whole.begins)
    assert np.array_equal(found.ends, whole.ends)


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> OddModel:
    def load_odd(name: str, prompt: str | None) -> Scorer:
        path = getattr(odd_models, name)(tmp_path_factory.mktemp("model"))
        return load(path, threads=1, max_batch_tokens=2_000, prompt=prompt)

    return load_odd


@pytest.mark.parametrize(
    ("name", "prompt"),
    [
        ("xlmr", None),
        ("modernbert", None),
        ("t5", None),
        ("generative_reranker", "find a program that does this"),
    ],
)
def test_passages_fit_into_models_of_other_kinds_with_their_templates_and_prompts(
    odd: OddModel, name: str, prompt: str | None
) -> None:
    scorer = odd(name, prompt)
    text = "the cat sat on the floor, and opened a file. " * 200
    # As long as the model allows, so that an error of one token would truncate a passage
    how = passages(scorer.max_length)
    scored = scorer.score_pairs([("the cat", text), ("the cat", "the floor")], passages=how)
    assert scored.passages is not None
    assert scored.passages.shortened == [1, 0]
    assert scored.passages.counts[0] > 3
    assert scored.truncated == [False, False]
    (_, begin, end, _, _), _ = scored.passages.rows()
    (alone,) = scorer.score([("the cat", text[begin:end])])
    assert alone == pytest.approx(scored.logits[0], abs=1e-4)
