"""Write models to a folder: the weights, and the files that other libraries need.

Run `python -m benchmarks.prepare STEP FOLDER`, with a folder that is named like a shape. Each step
runs in its own process, so that its memory and threads do not affect the measurements.
"""

from __future__ import annotations

import json
import shutil
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, BertConfig
from transformers import BertForSequenceClassification as Bert

from benchmarks.shapes import SHAPES
from benchmarks.ways import INPUTS
from benchmarks.work import CANDIDATES, KINDS, MAX_LENGTH, SAMPLE, Collection, tokenizer_of
from worker.engine.model_paths import bundled_path

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
#: Queries, with 50 pairs each, for calibrating openvino's int8: nncf uses 300 pairs by default.
CALIBRATION_QUERIES = 6


def write_weights(folder: Path) -> None:
    """Save the model as transformers does: the bundled one, or random weights of a shape.

    Speed does not depend on the values of weights. But nearly equal scores would match any other
    scores, so the weights are larger than those of a fresh model.
    """
    if folder.name == "bundled":
        shutil.copytree(bundled_path(), folder)
        return
    shape = SHAPES[folder.name]
    torch.manual_seed(0)
    config: dict[str, Any] = {
        "vocab_size": 30_522,
        "hidden_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "intermediate_size": shape.intermediate,
        "max_position_embeddings": MAX_LENGTH,
        "num_labels": 1,
        "initializer_range": 0.05,
    }
    model: Any = Bert(BertConfig(**config))
    torch.nn.init.normal_(model.classifier.weight, std=0.5)
    folder.mkdir()
    for name in TOKENIZER_FILES:
        shutil.copy(bundled_path() / name, folder)
    _centre(model.eval(), folder)
    model.save_pretrained(folder)


@torch.inference_mode()
def _centre(model: Any, folder: Path) -> None:
    """Shift the mean of the scores to 0, because a sigmoid saturates for large scores."""
    forward = _LogitsOnly(model)
    inputs = (map(torch.from_numpy, columns) for columns in _inputs(folder, queries=1))
    logits = [float(forward(*columns)) for columns in inputs]
    model.classifier.bias -= statistics.mean(logits)


def export_onnx(folder: Path) -> None:
    """Export the weights to ONNX, and add the files that fastembed and FlashRank need."""
    target = folder / "onnx"
    target.mkdir()
    # This attention is plain products and a softmax, which every runtime can fuse.
    model = AutoModelForSequenceClassification.from_pretrained(folder, attn_implementation="eager")
    axes = {0: "pairs", 1: "tokens"}
    torch.onnx.export(
        _LogitsOnly(model.eval()),
        tuple(torch.ones(2, 8, dtype=torch.int64) for _ in INPUTS),
        target / "model.onnx",
        input_names=list(INPUTS),
        output_names=["logits"],
        dynamic_axes={**dict.fromkeys(INPUTS, axes), "logits": {0: "pairs"}},
        opset_version=17,
        dynamo=False,
    )
    for name in (*TOKENIZER_FILES, "config.json"):
        shutil.copy(folder / name, target)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    special = {name: settings[name] for name in settings if name.endswith("_token")}
    (target / "special_tokens_map.json").write_text(json.dumps(special))


def quantise_onnx(folder: Path) -> None:
    """Quantize with onnxruntime's dynamic int8: int8 weights, activations quantized at run time."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    target = folder / "onnx-int8"
    target.mkdir()
    quantize_dynamic(
        folder / "onnx" / "model.onnx",
        target / "model.onnx",
        weight_type=QuantType.QInt8,
        per_channel=True,
    )


def quantise_openvino(folder: Path) -> None:
    """Quantize with openvino's int8: weights and activations, calibrated on pairs of the sample."""
    import nncf
    import openvino

    # Half as many for twelve layers, which take twice as long.
    queries = CALIBRATION_QUERIES * 6 // max(6, SHAPES[folder.name].layers)
    tokens = _inputs(folder, queries)
    quantized = nncf.quantize(
        openvino.Core().read_model(folder / "onnx" / "model.onnx"),
        nncf.Dataset(tokens, lambda columns: dict(zip(INPUTS, columns, strict=True))),
        subset_size=len(tokens),
        model_type=nncf.ModelType.TRANSFORMER,
    )
    (folder / "openvino-int8").mkdir()
    openvino.save_model(quantized, folder / "openvino-int8" / "model.xml", compress_to_fp16=False)


class _LogitsOnly(torch.nn.Module):
    """The network with positional inputs and a single output, as required by exporters."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self._model = model

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self._model(**dict(zip(INPUTS, inputs, strict=True))).logits
        return logits


def _inputs(folder: Path, queries: int) -> list[tuple[Any, ...]]:
    """Return the columns of `INPUTS` for the pairs of some queries of the sample, one pair each."""
    drawn = Collection(SAMPLE).draw(KINDS["real"], queries, CANDIDATES, seed=1)
    pairs = [pair for query in drawn for pair in query.pairs]
    return [
        tuple(np.array([row]) for row in (each.ids, each.attention_mask, each.type_ids))
        for each in tokenizer_of(folder).encode_batch(pairs)
    ]


STEPS: dict[str, Callable[[Path], None]] = {
    "weights": write_weights,
    "onnx": export_onnx,
    "onnx-int8": quantise_onnx,
    "openvino-int8": quantise_openvino,
}


@click.command()
@click.argument("step", type=click.Choice(list(STEPS)))
@click.argument("folder", type=click.Path(path_type=Path))
def main(step: str, folder: Path) -> None:
    """Do one step."""
    STEPS[step](folder)


if __name__ == "__main__":
    main()
