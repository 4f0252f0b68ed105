"""Batches take the longest pairs first, and are packed such that each pair can be found again."""

from __future__ import annotations

import random

import numpy as np
import pytest

from contract.errors import BadScores
from tests.unit import tiny_models
from worker.engine.attention import Group
from worker.engine.batches import ScoreArray, make_batches, restore_order
from worker.engine.packing import ROUND_ROWS_TO, group_by_length, lay_out
from worker.engine.pair_layout import PairLayout, PairTokens

PADDING, BEGIN, END = 0, 101, 102


@pytest.fixture(scope="module")
def special() -> PairLayout:
    return tiny_models.layout(tiny_models.bundled_tokenizer())


def tokens(query: list[int], document: list[int]) -> PairTokens:
    return PairTokens(np.array(query, np.int32), np.array(document, np.int32), lost=0)


def in_model(pair: PairTokens) -> list[int]:
    """Return a pair's ids as a BERT reads them."""
    return [BEGIN, *pair.query.tolist(), END, *pair.document.tolist(), END]


# Making batches

#: Lengths of pairs, and a budget of tokens.
CUTS = [
    ([5], 100),
    ([5, 9, 5, 1, 7], 10),
    ([512, 3, 3, 3, 512, 40], 512),
    ([600, 700, 2], 512),
    ([4] * 25, 16),
    ([3, 3, 3], 1),
    ([random.Random(1).randint(3, 512) for _ in range(500)], 2_048),
    ([0, 0, 1], 1),
]
every_cut = pytest.mark.parametrize(("lengths", "budget"), CUTS)
any_threads = pytest.mark.parametrize("threads", [1, 2, 3, 8])


@every_cut
@any_threads
@pytest.mark.parametrize("padded", [False, True])
def test_every_place_is_in_exactly_one_batch(
    lengths: list[int], budget: int, threads: int, padded: bool
) -> None:
    batches = list(make_batches(lengths, budget, threads, padded=padded))
    assert all(batches)
    assert sorted(place for batch in batches for place in batch) == list(range(len(lengths)))


@every_cut
@any_threads
@pytest.mark.parametrize("padded", [False, True])
def test_the_longest_pairs_come_first(
    lengths: list[int], budget: int, threads: int, padded: bool
) -> None:
    batches = make_batches(lengths, budget, threads, padded=padded)
    ordered = [lengths[place] for batch in batches for place in batch]
    assert ordered == sorted(lengths, reverse=True)


@every_cut
@any_threads
def test_only_a_single_pair_may_exceed_the_token_budget(
    lengths: list[int], budget: int, threads: int
) -> None:
    for batch in make_batches(lengths, budget, threads):
        assert len(batch) == 1 or sum(lengths[place] for place in batch) <= budget


@every_cut
def test_padding_counts_where_there_is_some(lengths: list[int], budget: int) -> None:
    for batch in make_batches(lengths, budget, padded=True):
        assert len(batch) == 1 or max(lengths[place] for place in batch) * len(batch) <= budget


def test_a_long_pair_among_short_ones_takes_their_places_only_if_they_are_padded() -> None:
    lengths = [8, 9, 8, 60, 8]
    assert list(make_batches(lengths, 100)) == [[3, 1, 0, 2, 4]]
    assert list(make_batches(lengths, 100, padded=True)) == [[3], [1, 0, 2, 4]]


@pytest.mark.parametrize(
    ("lengths", "padded", "sizes"),
    [
        pytest.param([4] * 10, False, [4, 4, 2], id="equal lengths"),
        pytest.param([4] * 10, True, [4, 4, 2], id="equal lengths, padded"),
        pytest.param([5, 4, 4], True, [3], id="padded to the budget"),
        pytest.param([5, 4, 4, 2], True, [3, 1], id="padded, and one too many"),
    ],
)
def test_a_batch_of_a_single_thread_is_filled_as_far_as_the_budget_goes(
    lengths: list[int], padded: bool, sizes: list[int]
) -> None:
    assert [len(batch) for batch in make_batches(lengths, 16, padded=padded)] == sizes


def test_equal_lengths_stay_in_order() -> None:
    assert list(make_batches([4, 9, 4, 9, 4], 100)) == [[1, 3, 0, 2, 4]]


def test_a_pair_that_exceeds_the_budget_is_alone() -> None:
    assert list(make_batches([2, 600, 2, 700], 512)) == [[3], [1], [0, 2]]


@pytest.mark.parametrize("threads", [1, 2])
def test_no_lengths_make_no_batches(threads: int) -> None:
    assert list(make_batches([], 10, threads)) == []


@pytest.mark.parametrize(
    ("pairs", "budget", "threads", "sizes"),
    [
        pytest.param(8, 1_000, 2, [4, 4], id="what one batch could hold is shared"),
        pytest.param(9, 1_000, 3, [3, 3, 3], id="among three"),
        pytest.param(1, 1_000, 4, [1], id="fewer pairs than threads"),
        pytest.param(2, 1_000, 4, [1, 1], id="a pair for some threads"),
        pytest.param(16, 40, 2, [4, 4, 4, 4], id="full batches are not made smaller"),
        pytest.param(12, 40, 2, [3, 3, 3, 3], id="a round of full ones and one of half-full ones"),
        pytest.param(12, 40, 1, [4, 4, 4], id="one thread"),
    ],
)
def test_each_thread_has_an_equal_share(
    pairs: int, budget: int, threads: int, sizes: list[int]
) -> None:
    assert [len(batch) for batch in make_batches([10] * pairs, budget, threads)] == sizes


@pytest.mark.parametrize(
    ("pairs", "least_share", "sizes"),
    [
        pytest.param(8, 50, [5, 3], id="a share of the least size, and the rest"),
        pytest.param(8, 80, [8], id="not enough for two"),
        pytest.param(16, 80, [8, 8], id="just enough for two"),
        pytest.param(20, 500, [10, 10], id="a least share above the budget"),
    ],
)
def test_a_share_is_worth_its_thread(pairs: int, least_share: int, sizes: list[int]) -> None:
    batches = make_batches([10] * pairs, 100, 2, least_share)

    assert [len(batch) for batch in batches] == sizes


@pytest.mark.parametrize("threads", [2, 3, 8])
def test_no_batch_is_larger_than_a_threads_share_of_all_tokens(threads: int) -> None:
    chance = random.Random(2)
    lengths = [chance.randint(3, 90) for _ in range(200)]
    share = -(-sum(lengths) // threads)
    batches = list(make_batches(lengths, 1_000_000, threads))
    assert len(batches) >= threads
    assert all(sum(lengths[place] for place in batch) <= share for batch in batches)


# Restoring the order of scores


def scores(*values: float) -> ScoreArray:
    return np.array(values, np.float32)


def test_each_score_goes_to_its_pairs_place() -> None:
    ordered = restore_order([[3, 0], [1], [4, 2]], [scores(3, 0), scores(1), scores(4, 2)])
    assert ordered.tolist() == [0, 1, 2, 3, 4]


def test_rows_of_scores_go_to_their_pairs_places() -> None:
    ordered = restore_order([[2], [0, 1]], [scores(5, 6)[None], scores(1, 2, 3, 4).reshape(2, 2)])
    assert ordered.tolist() == [[1, 2], [3, 4], [5, 6]]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([scores(1), scores(2)], "1 score for 2 pairs"),
        ([scores(1, 2), scores(3, 4)], "2 scores for 1 pair"),
        ([scores(1, 2), scores()], "0 scores for 1 pair"),
    ],
)
def test_a_wrong_number_of_scores_is_never_put_in_order(
    given: list[ScoreArray], message: str
) -> None:
    with pytest.raises(BadScores, match=rf"^the model returned {message}$"):
        restore_order([[2, 0], [1]], given)


def test_a_score_that_is_missing_here_and_too_many_there_is_no_right_number() -> None:
    with pytest.raises(BadScores):
        restore_order([[2, 0], [1]], [scores(2), scores(0, 1)])


# Groups


@pytest.mark.parametrize(
    ("lengths", "groups"),
    [
        ([], []),
        ([7], [(0, 1)]),
        ([7, 7, 7], [(0, 3)]),
        ([9, 7, 7, 4], [(0, 1), (1, 3), (3, 4)]),
    ],
)
def test_a_group_has_pairs_of_equal_length(
    lengths: list[int], groups: list[tuple[int, int]]
) -> None:
    assert list(group_by_length(lengths)) == groups


# Packing

LONG, MIDDLE = tokens([7], [8, 9]), tokens([5], [6])


def test_pairs_are_laid_end_to_end_and_the_rows_are_filled_up(special: PairLayout) -> None:
    batch = lay_out([LONG, MIDDLE], special)
    pairs = [BEGIN, 7, END, 8, 9, END, BEGIN, 5, END, 6, END]
    assert batch.ids.tolist() == [*pairs, *[PADDING] * 5]
    assert batch.positions.tolist() == [0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, *[0] * 5]
    assert batch.types.tolist() == [0, 0, 0, 1, 1, 1, 0, 0, 0, 1, 1, *[0] * 5]
    assert batch.groups == (Group(0, 1, 6), Group(6, 1, 5))
    assert [group.rows for group in batch.groups] == [slice(0, 6), slice(6, 11)]


@pytest.mark.parametrize(("words", "rows"), [(0, 16), (12, 16), (13, 16), (14, 32), (29, 32)])
def test_rows_are_rounded_up(special: PairLayout, words: int, rows: int) -> None:
    batch = lay_out([tokens([], [5] * words)], special)
    assert rows % ROUND_ROWS_TO == 0
    assert [len(batch.ids), len(batch.positions), len(batch.types)] == [rows] * 3


@pytest.mark.parametrize("seed", range(5))
def test_every_pair_can_be_read_back_from_its_batch(special: PairLayout, seed: int) -> None:
    # Given pairs of any lengths, the longest first
    chance = random.Random(seed)

    def some(most: int) -> list[int]:
        return [chance.randint(1_000, 9_999) for _ in range(chance.randint(0, most))]

    pairs = sorted(
        (tokens(some(4), some(12)) for _ in range(chance.randint(1, 40))), key=lambda p: -p.length
    )
    # When they are laid out
    batch = lay_out(pairs, special)
    # Then each is found at its group's rows, one after another
    unread = iter(pairs)
    filled = 0
    for group in batch.groups:
        assert group.start == filled
        for _ in range(group.pairs):
            pair = next(unread)
            own = group.length
            assert own == pair.length
            rows = slice(filled, filled + own)
            assert batch.ids[rows].tolist() == in_model(pair)
            assert batch.positions[rows].tolist() == list(range(own))
            of_query = len(pair.query) + 2
            assert batch.types[rows].tolist() == [0] * of_query + [1] * (own - of_query)
            filled += own
    assert next(unread, None) is None
    assert filled <= len(batch.ids) < filled + ROUND_ROWS_TO
    assert set(batch.ids[filled:].tolist()) <= {PADDING}
