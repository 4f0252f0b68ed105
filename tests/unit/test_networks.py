"""Our own networks return the logits of transformers, whatever their shape and that of a batch."""

from __future__ import annotations

import copy
import io
import random
from collections.abc import Callable, Sequence
from functools import cache
from itertools import groupby
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    ElectraConfig,
    ElectraForSequenceClassification,
    ModernBertConfig,
    ModernBertForSequenceClassification,
    PreTrainedModel,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
)

from tests.unit import tiny_models, varlen_layout
from worker.engine import exchange
from worker.engine.families.registry import FAMILIES
from worker.engine.layers import Network
from worker.engine.linear import Linear, PackedLinear
from worker.engine.packing import Batch, lay_out
from worker.engine.pair_layout import PairLayout, PairTokens
from worker.engine.varlen_functions import padded

#: Layers, hidden size, heads, intermediate size.
Shape = tuple[int, int, int, int]
SHAPES: list[Shape] = [
    (1, 32, 1, 64),
    (1, 24, 4, 50),
    (2, 30, 2, 37),
    (2, 33, 3, 65),
    (3, 64, 4, 96),
]
#: Those of the families that are tried less often. Rotary positions need heads of even size.
OTHER_SHAPES: list[Shape] = [(1, 32, 1, 64), (4, 40, 4, 50)]
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


def with_padding(pairs: Sequence[PairTokens], special: PairLayout) -> Batch:
    """Lay out a batch as on a GPU without a function for attention of variable length."""
    return varlen_layout.lay_out(pairs, special, padded())


#: The layouts of a batch: a CPU's, a GPU's, and a GPU's with padding.
LayOut = Callable[[Sequence[PairTokens], PairLayout], Batch]
LAYOUTS: list[LayOut] = [lay_out, varlen_layout.lay_out, with_padding]
layouts = pytest.mark.parametrize("lay", LAYOUTS, ids=["cpu", "gpu", "padded"])

kinds = pytest.mark.parametrize("kind", [Linear, PackedLinear])


@cache
def _special() -> PairLayout:
    return tiny_models.layout(tiny_models.bundled_tokenizer())


@pytest.fixture(scope="module")
def special() -> PairLayout:
    return _special()


def bert(layers: int, hidden: int, heads: int, intermediate: int, **config: Any) -> PreTrainedModel:
    shape = _shape(layers, hidden, heads, intermediate) | config
    return BertForSequenceClassification(BertConfig(**shape))


def xlm_roberta(layers: int, hidden: int, heads: int, intermediate: int) -> PreTrainedModel:
    own = {"max_position_embeddings": POSITIONS + 2, "type_vocab_size": 1, "pad_token_id": 1}
    shape = _shape(layers, hidden, heads, intermediate) | own
    return XLMRobertaForSequenceClassification(XLMRobertaConfig(**shape))


def electra(layers: int, hidden: int, heads: int, intermediate: int) -> PreTrainedModel:
    shape = _shape(layers, hidden, heads, intermediate) | {"embedding_size": 16}
    return ElectraForSequenceClassification(ElectraConfig(**shape))


def electra_unprojected(layers: int, hidden: int, heads: int, intermediate: int) -> PreTrainedModel:
    shape = _shape(layers, hidden, heads, intermediate) | {"embedding_size": hidden}
    return ElectraForSequenceClassification(ElectraConfig(**shape))


def distilbert(layers: int, hidden: int, heads: int, intermediate: int) -> PreTrainedModel:
    shape: dict[str, Any] = {"n_layers": layers, "dim": hidden, "n_heads": heads}
    shape |= {"hidden_dim": intermediate, "num_labels": 1}
    shape |= {"vocab_size": VOCABULARY, "max_position_embeddings": POSITIONS}
    return DistilBertForSequenceClassification(DistilBertConfig(**shape))


def modernbert(
    layers: int, hidden: int, heads: int, intermediate: int, **config: Any
) -> PreTrainedModel:
    # Every third layer, from the first on, sees all tokens; the others see 8 to each side.
    own = {"local_attention": 16, "global_attn_every_n_layers": 3, "pad_token_id": 0}
    special = {"cls_token_id": 1, "sep_token_id": 2, "bos_token_id": 1, "eos_token_id": 2}
    shape = _shape(layers, hidden, heads, intermediate) | own | special | config
    return ModernBertForSequenceClassification(ModernBertConfig(**shape))


def modernbert_mean(layers: int, hidden: int, heads: int, intermediate: int) -> PreTrainedModel:
    biased = {"attention_bias": True, "mlp_bias": True, "norm_bias": True}
    return modernbert(layers, hidden, heads, intermediate, classifier_pooling="mean", **biased)


def _shape(layers: int, hidden: int, heads: int, intermediate: int) -> dict[str, Any]:
    return {
        "vocab_size": VOCABULARY,
        "max_position_embeddings": POSITIONS,
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "intermediate_size": intermediate,
        "num_labels": 1,
    }


Make = Callable[[int, int, int, int], PreTrainedModel]
OTHERS: list[Make] = [
    xlm_roberta,
    electra,
    electra_unprojected,
    distilbert,
    modernbert,
    modernbert_mean,
]
CASES: list[tuple[Make, Shape]] = [(bert, shape) for shape in SHAPES]
CASES += [(make, shape) for make in OTHERS for shape in OTHER_SHAPES]
#: A family for each kind of layers. The others have the same, between other embeddings and heads.
LAYERS = (bert, modernbert_mean)


def marked(cases: Sequence[tuple[Make, Shape]]) -> list[Any]:
    """Return the cases, those of one family for each kind of layers marked `arithmetic`."""
    return [
        pytest.param(make, shape, marks=[pytest.mark.arithmetic] if make in LAYERS else [])
        for make, shape in cases
    ]


def families(*marks: pytest.MarkDecorator) -> pytest.MarkDecorator:
    """Run a test for all families, and mark one for each kind of layers."""
    made = [pytest.param(make, marks=marks if make in LAYERS else ()) for make in [bert, *OTHERS]]
    return pytest.mark.parametrize("make", made)


@cache
def tiny(make: Make, shape: Shape) -> PreTrainedModel:
    """Return a model in which every parameter matters: none is 0 or 1, unlike in a new model.

    Tests share it, so none may change it.
    """
    torch.manual_seed(shape[1])
    model = make(*shape)
    model.train(False)
    for name, parameter in model.named_parameters():
        is_scale = "norm" in name.lower() and name.endswith("weight")
        parameter.data.normal_(1 if is_scale else 0, 0.3)
    return model


def network(model: PreTrainedModel, kind: type[Linear]) -> Network:
    (family,) = (each for each in FAMILIES if type(model) in each.classes)
    assert family.supports(model)
    return family.network(model, kind)


def made(sizes: Sequence[tuple[int, int]]) -> list[PairTokens]:
    """Return pairs of these sizes with random words, the longest first."""
    chance = random.Random(1)

    def words(number: int) -> np.typing.NDArray[np.int32]:
        return np.array([chance.randrange(VOCABULARY) for _ in range(number)], np.int32)

    pairs = [PairTokens(words(query), words(document), 0) for query, document in sizes]
    return sorted(pairs, key=lambda pair: -pair.length)


@torch.inference_mode()
def reference(model: PreTrainedModel, pairs: Sequence[PairTokens]) -> torch.Tensor:
    """Return the logits that transformers computes without padding, thus for pairs as long."""
    around = _special()
    logits = []
    for _, group in groupby(pairs, key=lambda pair: pair.length):
        ids, types = [], []
        for pair in group:
            parts = (around.before, pair.query, around.between, pair.document, around.after)
            of_document = len(pair.document) + len(around.after)
            ids.append(np.concatenate(parts))
            types.append([0] * (pair.length - of_document) + [1] * of_document)
        given = {"input_ids": torch.tensor(np.array(ids), dtype=torch.long)}
        if getattr(model.config, "type_vocab_size", 1) == 2:
            given["token_type_ids"] = torch.tensor(types)
        logits.append(model(**given).logits[:, 0])
    return torch.cat(logits)


def farthest(one: torch.Tensor, other: torch.Tensor) -> float:
    assert one.shape == other.shape
    return float((one - other).abs().max())


@families()
@kinds
def test_another_process_gets_the_same_logits_to_the_last_bit(
    special: PairLayout, make: Make, kind: type[Linear]
) -> None:
    ours = network(tiny(make, OTHER_SHAPES[0]), kind)
    file = io.BytesIO()
    exchange.write(ours, file)
    file.seek(0)

    theirs = exchange.read(file)

    batch = lay_out(made(BATCHES["mixed"]), special)
    assert torch.equal(theirs(batch), ours(batch))


@pytest.mark.parametrize(("make", "shape"), marked(CASES))
def test_logits_are_those_of_transformers(special: PairLayout, make: Make, shape: Shape) -> None:
    model = tiny(make, shape)
    networks = [network(model, kind) for kind in (Linear, PackedLinear)]
    for sizes in BATCHES.values():
        pairs = made(sizes)
        expected = reference(model, pairs)
        for lay in LAYOUTS:
            for ours in networks:
                assert farthest(ours(lay(pairs, special)), expected) < TOLERANCE, (sizes, lay)


@pytest.mark.arithmetic
@kinds
@layouts
def test_logits_do_not_depend_on_the_batch(
    special: PairLayout, lay: LayOut, kind: type[Linear]
) -> None:
    ours = network(tiny(bert, (2, 30, 2, 37)), kind)
    for sizes in BATCHES.values():
        pairs = made(sizes)
        alone = torch.cat([ours(lay([pair], special)) for pair in pairs])
        assert farthest(ours(lay(pairs, special)), alone) < TOLERANCE, sizes


#: With the widths of real models, for which MKL uses other kernels than for tiny ones.
WIDTHS = [
    (2, 128, 2, 512),
    (2, 384, 12, 1_536),
    (2, 312, 12, 1_200),
    (2, 100, 4, 300),
    (2, 36, 3, 65),
]


@pytest.mark.parametrize(
    ("make", "shape"),
    marked([(bert, shape) for shape in WIDTHS] + [(make, (2, 128, 2, 512)) for make in OTHERS]),
)
def test_logits_are_the_same_bits_in_any_batch(
    special: PairLayout, make: Make, shape: Shape
) -> None:
    ours = network(tiny(make, shape), PackedLinear)
    chance = random.Random(2)
    lengths = [
        *(chance.randrange(3, 30) for _ in range(32)),
        *(chance.randrange(60, 80) for _ in range(8)),
    ]
    pairs = made([(chance.randrange(9), length) for length in lengths] + [(4, 9)] * 9)
    alone = torch.cat([ours(lay_out([pair], special)) for pair in pairs])
    for number in (2, 7, 16, 17, 31, 33, 49):
        places = sorted(chance.sample(range(len(pairs)), number))
        logits = ours(lay_out([pairs[place] for place in places], special))
        assert torch.equal(logits, alone[places])


@pytest.mark.arithmetic
def test_logits_of_random_pairs_differ_far_more_than_the_tolerance(special: PairLayout) -> None:
    for make, shape in CASES:
        logits = network(tiny(make, shape), Linear)(lay_out(made(BATCHES["mixed"]), special))
        assert logits.std() > 1_000 * TOLERANCE


@pytest.mark.arithmetic
@pytest.mark.parametrize("layers", [1, 2, 3, 5])
@pytest.mark.parametrize("make", [modernbert, modernbert_mean])
def test_a_last_layer_with_a_window_sees_that_of_the_first_token(
    special: PairLayout, make: Make, layers: int
) -> None:
    # The first layer and the fourth see all tokens, the others see a window.
    model = tiny(make, (layers, 32, 2, 64))
    pairs = made([(5, 60), (0, 9), (20, 40)])
    expected = reference(model, pairs)
    for lay in LAYOUTS:
        assert farthest(network(model, Linear)(lay(pairs, special)), expected) < TOLERANCE


@families(pytest.mark.arithmetic, pytest.mark.half_precision)
@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_in_half_precision_logits_are_rounded_and_given_in_single(
    special: PairLayout, make: Make, precision: torch.dtype
) -> None:
    model = tiny(make, (2, 32, 2, 64))
    pairs = made(BATCHES["mixed"])
    expected = reference(model, pairs)
    rounded: Any = copy.deepcopy(model)
    ours = network(rounded.to(precision), Linear)
    for lay in LAYOUTS:
        logits = ours(lay(pairs, special))
        assert logits.dtype == torch.float32, lay
        assert farthest(logits, expected) < 16 * torch.finfo(precision).eps, lay


@families(pytest.mark.arithmetic)
def test_the_given_model_is_left_as_it_was(special: PairLayout, make: Make) -> None:
    model = tiny(make, (2, 32, 2, 64))
    before = {name: each.clone() for name, each in model.state_dict().items()}
    ours = network(model, PackedLinear)
    for lay in LAYOUTS:
        ours(lay(made(BATCHES["mixed"]), special))
    assert all(torch.equal(each, before[name]) for name, each in model.state_dict().items())
