"""The models' shapes, and how much of the arithmetic is useful."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Shape:
    """A BERT with one score a pair, and what others have published of the model of that shape."""

    name: str
    #: As tables have it.
    title: str
    layers: int
    hidden: int
    heads: int
    intermediate: int
    #: The published model of this shape, and its figures in the reference's documentation.
    reference: str
    reference_ram_mb: int
    reference_call: str
    #: In ms, by the number of documents.
    reference_call_ms: dict[int, int] = field(default_factory=dict)
    #: Pairs to score while six layers score one, so that no cell takes much longer than another.
    pairs_factor: float = 1.0
    #: Of useful work, of a middling way on two cores: to guess how long a run takes.
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
            reference_call="30-40 ms a call",
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
            reference_call="150-200 ms a call",
            pairs_factor=0.5,
        ),
    )
}


def useful_flops(shape: Shape, lengths: Iterable[int]) -> float:
    """Floating point operations that the scores of pairs of these lengths (tokens) need.

    A multiplication and an addition count as two. With h hidden, i intermediate, and L the pair's
    own length:

    - each layer but the last, a token: 2 (4 h h + 2 h i) for the four projections of attention and
      the two of the feed-forward net, and 4 L h for attention itself (L dot products of h, and
      the weighted sum of L rows of h);
    - the last layer, a token: 2 (2 h h), its key and value only, because nothing but the first
      token's output is read after it;
    - the last layer, a pair: the first token's query, output and feed-forward net,
      2 (2 h h + 2 h i), its attention 4 L h, and the pooler and head 2 (h h + h).

    Embeddings, norms, softmax and activations are not counted, as they are no matrix products;
    nor is padding, which nobody asked for. It is the same work for every way, so the share of the
    ceiling compares ways: one that computes more than it has to has the lower share.
    """
    h, i, full = shape.hidden, shape.intermediate, shape.layers - 1
    flops = 0.0
    for length in lengths:
        a_token = full * (2 * (4 * h * h + 2 * h * i) + 4 * length * h) + 2 * (2 * h * h)
        first_token = 2 * (2 * h * h + 2 * h * i) + 4 * length * h + 2 * (h * h + h)
        flops += length * a_token + first_token
    return flops


def linear_shapes(shape: Shape) -> list[tuple[int, int]]:
    """(inputs, outputs) of a layer's linear maps: query-key-value, output, and the two of the
    feed-forward net."""
    h, i = shape.hidden, shape.intermediate
    return [(h, 3 * h), (h, h), (h, i), (i, h)]
