"""The shapes of models, and the amount of useful arithmetic."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Shape:
    """A BERT with one score per pair, and published figures for a model of that shape."""

    name: str
    #: The name in tables.
    title: str
    layers: int
    hidden: int
    heads: int
    intermediate: int
    #: The published model of this shape, and its figures in the reference's documentation.
    reference: str
    reference_ram_mb: int
    reference_call: str
    #: Milliseconds by the number of documents.
    reference_call_ms: dict[int, int] = field(default_factory=dict)
    #: Pairs to score while six layers score one, so that no cell takes much longer than another.
    pairs_factor: float = 1.0
    #: Useful GFLOP/s of an average way on two cores, to estimate the duration of a run.
    guess_gflops: float = 50.0


SHAPES = {
    shape.name: shape
    for shape in (
        Shape(
            name="bundled",
            title="two layers x 128 (bundled)",
            layers=2,
            hidden=128,
            heads=2,
            intermediate=512,
            reference="TinyBERT-L-2",
            reference_ram_mb=100,
            reference_call="30-40 ms per call",
            pairs_factor=4.0,
            guess_gflops=12.0,
        ),
        Shape(
            name="minilm-6",
            title="six layers x 384",
            layers=6,
            hidden=384,
            heads=12,
            intermediate=1536,
            reference="MiniLM-L-6",
            reference_ram_mb=200,
            reference_call="80, 150, 250 ms",
            reference_call_ms={20: 80, 50: 150, 100: 250},
        ),
        Shape(
            name="minilm-12",
            title="twelve layers x 384",
            layers=12,
            hidden=384,
            heads=12,
            intermediate=1536,
            reference="MiniLM-L-12",
            reference_ram_mb=300,
            reference_call="150-200 ms per call",
            pairs_factor=0.5,
        ),
    )
}


def useful_flops(shape: Shape, lengths: Iterable[int]) -> float:
    """Return the floating point operations needed for the scores of pairs with these token counts.

    A multiplication and an addition count as two operations. With hidden size h, intermediate size
    i, and L tokens in the pair:

    - each layer but the last, per token: 2 (4 h h + 2 h i) for the four projections of attention
      and the two of the feed-forward net;
    - each layer but the last, per token: 4 L h for attention itself (L dot products of h, and the
      weighted sum of L rows of h);
    - the last layer, per token: 2 (2 h h) for key and value only, because only the output of the
      first token is used afterwards;
    - the last layer, per pair: 2 (2 h h + 2 h i) for query, output and feed-forward net of the
      first token, and 4 L h for its attention;
    - pooler and head, per pair: 2 (h h + h).

    Embeddings, norms, softmax and activations do not count, because they are not matrix products.
    Padding does not count, because it is not needed. The work is the same for every way, so a way
    that computes more than necessary has a lower share of the ceiling.
    """
    h, i, full = shape.hidden, shape.intermediate, shape.layers - 1
    flops = 0.0
    for length in lengths:
        a_token = full * (2 * (4 * h * h + 2 * h * i) + 4 * length * h) + 2 * (2 * h * h)
        first_token = 2 * (2 * h * h + 2 * h * i) + 4 * length * h + 2 * (h * h + h)
        flops += length * a_token + first_token
    return flops


def linear_shapes(shape: Shape) -> list[tuple[int, int]]:
    """Return (inputs, outputs) of a layer's linear maps.

    They are query-key-value, attention output, and the two of the feed-forward net.
    """
    h, i = shape.hidden, shape.intermediate
    return [(h, 3 * h), (h, h), (h, i), (i, h)]
