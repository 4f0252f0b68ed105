"""Our own BERT returns the logits of transformers' BERT, whatever its shape and that of a batch."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from tests.unit import tiny_models
from worker.engine.bert import Bert
from worker.engine.linear import Linear, PackedLinear
from worker.engine.packing import lay_out
from worker.engine.tokens import PairTokens, SpecialIds

pytestmark = pytest.mark.arithmetic

#: Layers, hidden size, heads, intermediate size.
SHAPES = [(1, 32, 1, 64), (1, 24, 4, 50), (2, 30, 2, 37), (2, 33, 3, 65), (3, 64, 4, 96)]
VOCABULARY, POSITIONS = 200, 96
TOLERANCE = 5e-5

#: The tokens of a pair's query and document.
BATCHES: dict[str, list[tuple[int, int]]] = {
    "one pair": [(4, 9)],
    "the shortest pair": [(0, 0)],
    "the longest pair": [(40, POSITIONS - 43)],
    "many of equal length": [(words, 12 - words) for words in range(13)],
    "all different": [(3, length) for length in range(20)],
    "mixed": [(5, 30), (5, 30), (5, 29), (0, 33), (2, 8), (7, 3), (1, 0), (0, 1), (0, 0)],
}
SLACKS = [0, 1, 7, 1_000]

kinds = pytest.mark.parametrize("kind", [Linear, PackedLinear])


@pytest.fixture(scope="module")
def special() -> SpecialIds:
    return SpecialIds(tiny_models.bundled_tokenizer())


def tiny(layers: int, hidden: int, heads: int, intermediate: int) -> BertForSequenceClassification:
    """Return a BERT in which every parameter matters: none is 0 or 1, unlike in a new model."""
    torch.manual_seed(hidden)
    shape: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "max_position_embeddings": POSITIONS,
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "intermediate_size": intermediate,
        "num_labels": 1,
    }
    model = BertForSequenceClassification(BertConfig(**shape))
    model.train(False)
    for name, parameter in model.named_parameters():
        parameter.data.normal_(1 if name.endswith("LayerNorm.weight") else 0, 0.3)
    return model


def made(sizes: Sequence[tuple[int, int]]) -> list[PairTokens]:
    """Return pairs of these sizes with random words, the longest first."""
    chance = random.Random(1)

    def words(number: int) -> np.typing.NDArray[np.int32]:
        return np.array([chance.randrange(VOCABULARY) for _ in range(number)], np.int32)

    pairs = [PairTokens(words(query), words(document), False) for query, document in sizes]
    return sorted(pairs, key=lambda pair: -pair.length)


@torch.inference_mode()
def reference(model: BertForSequenceClassification, pairs: Sequence[PairTokens]) -> torch.Tensor:
    """Return the logits that transformers computes for each pair alone."""
    logits = []
    for pair in pairs:
        of_query, of_document = len(pair.query) + 2, len(pair.document) + 1
        ids = [101, *pair.query.tolist(), 102, *pair.document.tolist(), 102]
        types = [0] * of_query + [1] * of_document
        given = {"input_ids": torch.tensor([ids]), "token_type_ids": torch.tensor([types])}
        logits.append(model(**given).logits[0, 0])
    return torch.stack(logits)


def farthest(one: torch.Tensor, other: torch.Tensor) -> float:
    assert one.shape == other.shape
    return float((one - other).abs().max())


@kinds
@pytest.mark.parametrize("shape", SHAPES)
def test_logits_are_those_of_transformers(
    special: SpecialIds, shape: tuple[int, int, int, int], kind: type[Linear]
) -> None:
    model = tiny(*shape)
    bert = Bert(model, kind)
    for sizes in BATCHES.values():
        pairs = made(sizes)
        expected = reference(model, pairs)
        for slack in SLACKS:
            assert farthest(bert(lay_out(pairs, special, slack)), expected) < TOLERANCE


@kinds
@pytest.mark.parametrize("slack", SLACKS)
@pytest.mark.parametrize("sizes", BATCHES.values(), ids=BATCHES)
def test_logits_do_not_depend_on_the_batch(
    special: SpecialIds, sizes: list[tuple[int, int]], slack: int, kind: type[Linear]
) -> None:
    bert = Bert(tiny(2, 30, 2, 37), kind)
    pairs = made(sizes)
    alone = torch.cat([bert(lay_out([pair], special)) for pair in pairs])
    assert farthest(bert(lay_out(pairs, special, slack)), alone) < TOLERANCE


#: With the widths of real models, for which MKL uses other kernels than for tiny ones.
WIDTHS = [
    (2, 128, 2, 512),
    (2, 384, 12, 1_536),
    (2, 312, 12, 1_200),
    (2, 100, 4, 300),
    (2, 36, 3, 65),
]


@pytest.mark.parametrize("shape", WIDTHS, ids=lambda shape: f"h{shape[1]}")
def test_logits_are_the_same_bits_in_any_batch(
    special: SpecialIds, shape: tuple[int, int, int, int]
) -> None:
    bert = Bert(tiny(*shape), PackedLinear)
    chance = random.Random(2)
    pairs = made([(chance.randrange(9), chance.randrange(3, 80)) for _ in range(40)] + [(4, 9)] * 9)
    alone = torch.cat([bert(lay_out([pair], special)) for pair in pairs])
    for number in (2, 7, 16, 17, 31, 33, 49):
        places = sorted(chance.sample(range(len(pairs)), number))
        logits = bert(lay_out([pairs[place] for place in places], special))
        assert torch.equal(logits, alone[places])


def test_logits_of_random_pairs_differ_far_more_than_the_tolerance(special: SpecialIds) -> None:
    for shape in SHAPES:
        logits = Bert(tiny(*shape), Linear)(lay_out(made(BATCHES["mixed"]), special))
        assert logits.std() > 1_000 * TOLERANCE


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_in_half_precision_logits_are_rounded_and_given_in_single(
    special: SpecialIds, precision: torch.dtype
) -> None:
    model = tiny(2, 32, 2, 64)
    pairs = made(BATCHES["mixed"])
    expected = reference(model, pairs)
    rounded: Any = model
    logits = Bert(rounded.to(precision), Linear)(lay_out(pairs, special, slack=7))
    assert logits.dtype == torch.float32
    assert farthest(logits, expected) < 16 * torch.finfo(precision).eps


def test_the_given_model_is_left_as_it_was(special: SpecialIds) -> None:
    model = tiny(2, 32, 2, 64)
    before = {name: each.clone() for name, each in model.state_dict().items()}
    Bert(model, PackedLinear)(lay_out(made(BATCHES["mixed"]), special, slack=7))
    assert all(torch.equal(each, before[name]) for name, each in model.state_dict().items())
