"""The ways to score pairs: one function per library, with the same weights from a local folder.

`load_X(folder, threads)` returns a function from pairs to raw logits, in the order of the pairs.
Each function imports its own library, because each way runs in its own process. `folder` is a model
in the format of transformers. `prepare.py` creates `folder/onnx` and the folders next to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from benchmarks.work import MAX_LENGTH, Pair, tokenizer_of

Score = Callable[[list[Pair]], list[float]]

#: Batch size for onnxruntime and openvino when used directly.
OWN_BATCH = 16


@dataclass(frozen=True)
class Way:
    """A way, with notes for interpreting its figures."""

    name: str
    #: The name in tables.
    title: str
    load: Callable[[Path, int], Score]
    #: The step of `prepare.py` that it needs in addition to the weights.
    needs: str | None = None
    int8: bool = False
    note: str = ""


def load_rerankq(folder: Path, threads: int) -> Score:
    """Load this repository's engine."""
    from worker.engine import load

    return load(str(folder), device="cpu", threads=threads).score


def load_predict(folder: Path, threads: int, batch_size: int) -> Score:
    """Load sentence-transformers, with all pairs in one call."""
    predict = _predict(folder, threads)
    return lambda pairs: predict(pairs, batch_size)


def load_predict_by_query(folder: Path, threads: int) -> Score:
    """Load sentence-transformers, with one call per query, as in a web application."""
    predict = _predict(folder, threads)
    return lambda pairs: [score for query in by_query(pairs) for score in predict(query, 32)]


def _predict(folder: Path, threads: int) -> Callable[[list[Pair], int], list[float]]:
    import torch
    from sentence_transformers import CrossEncoder

    torch.set_num_threads(threads)
    encoder = CrossEncoder(str(folder), device="cpu", local_files_only=True)
    raw = torch.nn.Identity()

    def predict(pairs: list[Pair], batch_size: int) -> list[float]:
        scores = encoder.predict(
            pairs, batch_size=batch_size, activation_fn=raw, show_progress_bar=False
        )
        return [float(score) for score in scores]

    return predict


def load_fastembed(folder: Path, threads: int) -> Score:
    """Load fastembed, with its default batches of 64 pairs in the given order."""
    from fastembed.common.model_description import ModelSource
    from fastembed.rerank.cross_encoder import TextCrossEncoder

    # The source is never used, because the folder exists.
    TextCrossEncoder.add_custom_model(
        "local/model", sources=ModelSource(hf="local/model"), model_file="model.onnx"
    )
    model = TextCrossEncoder(
        "local/model",
        threads=threads,
        providers=["CPUExecutionProvider"],
        specific_model_path=str(folder / "onnx"),
        local_files_only=True,
    )
    return lambda pairs: list(model.rerank_pairs(pairs))


def load_flashrank(folder: Path, threads: int) -> Score:
    """Load FlashRank. All documents of a query are one batch, and its sigmoid is inverted."""
    import numpy as np
    from flashrank import Ranker, RerankRequest
    from flashrank.Config import model_file_map

    model_file_map["onnx"] = "model.onnx"
    ranker = Ranker("onnx", cache_dir=str(folder), max_length=MAX_LENGTH, log_level="WARNING")
    # It has no option for threads, and would use all cores.
    ranker.session = _session(folder / "onnx" / "model.onnx", threads)

    def score(pairs: list[Pair]) -> list[float]:
        scores: list[float] = []
        for query in by_query(pairs):
            passages = [{"id": place, "text": text} for place, (_, text) in enumerate(query)]
            ranked = ranker.rerank(RerankRequest(query=query[0][0], passages=passages))
            ranked.sort(key=itemgetter("id"))
            relevance = np.array([each["score"] for each in ranked], dtype=np.float64)
            # A float32 sigmoid can saturate at 0 or 1, whose logit would be infinite.
            relevance = relevance.clip(1e-38, 1 - 2**-24)
            scores += (np.log(relevance) - np.log1p(-relevance)).tolist()
        return scores

    return score


def load_rerankers(folder: Path, threads: int) -> Score:
    """Load the transformers ranker of rerankers: query by query, in its default batches of 16."""
    import torch
    from rerankers import Reranker

    torch.set_num_threads(threads)
    ranker = Reranker(str(folder), model_type="cross-encoder", device="cpu", verbose=0)
    if ranker is None:
        raise RuntimeError("rerankers did not load the model, for the reason printed above")

    def score(pairs: list[Pair]) -> list[float]:
        scores: list[float] = []
        for query in by_query(pairs):
            ranked = ranker.rank(query[0][0], [text for _, text in query])
            of = {each.document.doc_id: float(each.score) for each in ranked.results}
            scores += [of[place] for place in range(len(query))]
        return scores

    return score


def load_onnxruntime(folder: Path, threads: int, variant: str = "onnx") -> Score:
    """Load onnxruntime itself: longest pairs first, in batches of 16."""
    session = _session(folder / variant / "model.onnx", threads)
    return _sorted_batches(folder, lambda inputs: session.run(None, inputs)[0])


def load_openvino(folder: Path, threads: int, variant: str = "onnx") -> Score:
    """Load openvino itself: longest pairs first, in batches of 16."""
    import openvino

    file = "model.onnx" if variant == "onnx" else "model.xml"
    core = openvino.Core()
    compiled = core.compile_model(
        core.read_model(folder / variant / file),
        "CPU",
        {
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
            # openvino would use bfloat16 by default if the processor supports it.
            "INFERENCE_PRECISION_HINT": "f32",
        },
    )
    request = compiled.create_infer_request()
    output = compiled.output(0)
    return _sorted_batches(folder, lambda inputs: request.infer(inputs)[output])


def by_query(pairs: list[Pair]) -> Iterator[list[Pair]]:
    """Yield the pairs of each query, which must be adjacent."""
    for _, group in groupby(pairs, key=itemgetter(0)):
        yield list(group)


def _session(path: Path, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _sorted_batches(folder: Path, run: Callable[[dict[str, Any]], Any]) -> Score:
    """Return a function that scores in batches of `OWN_BATCH` pairs of similar length."""
    import numpy as np

    tokenizer = tokenizer_of(folder)

    def score(pairs: list[Pair]) -> list[float]:
        encodings = tokenizer.encode_batch(pairs)
        longest_first = sorted(range(len(pairs)), key=lambda place: -len(encodings[place].ids))
        scores = [0.0] * len(pairs)
        for start in range(0, len(pairs), OWN_BATCH):
            places = longest_first[start : start + OWN_BATCH]
            batch = [encodings[place] for place in places]
            inputs = np.zeros((3, len(batch), len(batch[0].ids)), dtype=np.int64)
            for row, each in enumerate(batch):
                inputs[:, row, : len(each.ids)] = (each.ids, each.attention_mask, each.type_ids)
            named = dict(zip(INPUTS, inputs, strict=True))
            for place, logit in zip(places, run(named)[:, 0].tolist(), strict=True):
                scores[place] = logit
        return scores

    return score


#: The inputs of the exported network, in the order in which `_sorted_batches` passes them.
INPUTS = ("input_ids", "attention_mask", "token_type_ids")

#: The way with the reference scores. Its speed at its best batch size counts as 1.
REFERENCE = "predict-32"
BATCH_SIZES = (8, 16, 32, 64)

WAYS = {
    way.name: way
    for way in (
        Way("rerankq", "rerankq", load_rerankq),
        *(
            Way(
                f"predict-{size}",
                f"predict, batches of {size}",
                partial(load_predict, batch_size=size),
            )
            for size in BATCH_SIZES
        ),
        Way("predict-by-query", "predict, query by query", load_predict_by_query),
        Way("fastembed", "fastembed", load_fastembed, needs="onnx"),
        Way("flashrank", "FlashRank", load_flashrank, needs="onnx"),
        Way("rerankers", "rerankers", load_rerankers),
        Way("onnxruntime", "onnxruntime", load_onnxruntime, needs="onnx"),
        Way("openvino", "openvino", load_openvino, needs="onnx"),
        Way(
            "onnxruntime-int8",
            "onnxruntime int8",
            partial(load_onnxruntime, variant="onnx-int8"),
            needs="onnx-int8",
            int8=True,
        ),
        Way(
            "openvino-int8",
            "openvino int8",
            partial(load_openvino, variant="openvino-int8"),
            needs="openvino-int8",
            int8=True,
        ),
    )
}
