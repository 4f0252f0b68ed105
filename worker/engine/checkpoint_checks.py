"""Checks that a checkpoint which loaded without an error is a trained reranker."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from sentence_transformers import CrossEncoder
from transformers.utils import logging as transformers_logging

from worker.engine.model_paths import Location, cache_folder
from worker.engine.unusable import UnusableModel

#: Makes a progress bar, given a factory of them and its arguments.
TqdmHook = Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]

#: Keys of weights to name in a message, as a model may lack hundreds.
NAMED_KEYS = 4


def check(encoder: CrossEncoder, location: Location) -> None:
    """Raise `UnusableModel` for a model whose scores would be meaningless.

    `location` is where the model was loaded from.
    """
    _check_kind(encoder, location)
    _check_weights(encoder, location)
    _check_finite(encoder.model)
    _check_tokenizer(encoder)


def _check_kind(encoder: CrossEncoder, location: Location) -> None:
    """Reject models that were trained for another purpose, such as embedding or generating text."""
    saved_as = encoder.model.config.architectures or ()
    loaded_as = type(encoder.model).__name__
    if saved_as and loaded_as not in saved_as and len(encoder) == 1:
        raise UnusableModel(
            f"it was saved as {saved_as[0]}, not as {loaded_as}, so it has no trained scoring head"
        )
    # sentence-transformers turns any language model into a reranker with the words "yes" and "no".
    if loaded_as.endswith("ForCausalLM") and not _has_file(location, "modules.json"):
        raise UnusableModel(
            f"it is a language model ({loaded_as}) that was not saved as a reranker: it has no"
            " modules.json"
        )


def _check_weights(encoder: CrossEncoder, location: Location) -> None:
    """Reject weights that do not fill the model: missing ones are initialized at random."""
    info = _loading_info(encoder.model, location)
    if mismatched := sorted(info["mismatched_keys"]):
        shapes = [
            f"{key} has shape {list(held)} instead of {list(wanted)}"
            for key, held, wanted in mismatched
        ]
        raise UnusableModel(
            f"its weights do not match its config.json: {_first_few(shapes, '; ')}",
            "Correct config.json, or use the weights that belong to it",
        )
    if missing := _keys_that_score(encoder, info["missing_keys"]):
        head = all(re.match(r"(classifier|score|classification_head)\b", key) for key in missing)
        what = "it has no trained scoring head" if head else "its checkpoint is incomplete"
        raise UnusableModel(
            f"{what} (missing weights: {_first_few(missing)})",
            "Use a checkpoint that was trained and saved as a cross-encoder, with all its weights",
        )
    if extra := _keys_of_unused_layers(encoder.model, info["unexpected_keys"]):
        raise UnusableModel(
            f"its config.json has fewer layers than its weights (unused: {_first_few(extra)})",
            "Correct the number of layers in config.json",
        )


def _loading_info(network: Any, location: Location) -> dict[str, Any]:
    """Return transformers' report on loading the weights.

    CrossEncoder does not expose the report, so a second model is loaded in the precision of the
    file. Its tensors are only mapped into memory, not read.
    """
    with quiet_transformers():
        _, info = type(network).from_pretrained(
            location.source,
            revision=location.revision or "main",
            config=network.config,
            dtype="auto",
            cache_dir=cache_folder(),
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    return dict(info)


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers from logging its report on the weights, and from showing their progress.

    The report is a long table, and loading takes a moment. Downloads are shown.
    """
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity(logging.ERROR)
    before = transformers_logging.set_tqdm_hook(None)
    transformers_logging.set_tqdm_hook(partial(_hide_weights, threading.get_ident(), before))
    try:
        yield
    finally:
        transformers_logging.set_tqdm_hook(before)
        transformers_logging.set_verbosity(verbosity)


def _hide_weights(
    thread: int, hook: TqdmHook | None, factory: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Return a progress bar, which shows nothing if it is that of weights loaded by `thread`."""
    if threading.get_ident() == thread and kwargs.get("desc") == "Loading weights":
        return transformers_logging.EmptyTqdm(*args, **kwargs)
    return factory(*args, **kwargs) if hook is None else hook(factory, args, kwargs)


def _keys_that_score(encoder: CrossEncoder, keys: Iterable[str]) -> list[str]:
    """Return the missing keys that affect scores, which excludes those of an unused pooler.

    A score depends on a tensor if it has a gradient with respect to it.
    """
    tensors = dict(encoder.model.named_parameters()) | dict(encoder.model.named_buffers())
    missing = {key: tensors[key] for key in keys if key in tensors}
    differentiable = [key for key, tensor in missing.items() if tensor.is_floating_point()]
    if not differentiable:
        return []
    for key in differentiable:
        missing[key].requires_grad_(True)
    features = encoder.preprocess([("a query", "a document")])
    features = {
        name: value.to(encoder.device) if isinstance(value, torch.Tensor) else value
        for name, value in features.items()
    }
    with torch.enable_grad():
        score = encoder(features)["scores"].float().sum()
    if not score.requires_grad:
        return []
    gradients = torch.autograd.grad(
        score, [missing[key] for key in differentiable], allow_unused=True
    )
    return sorted(
        key for key, gradient in zip(differentiable, gradients, strict=True) if gradient is not None
    )


def _keys_of_unused_layers(network: Any, unexpected: Iterable[str]) -> list[str]:
    """Return the unexpected keys that differ from the model's only in a layer's number."""
    own = {_without_numbers(key) for key in network.state_dict()}
    return sorted(key for key in unexpected if _without_numbers(key) in own)


def _without_numbers(key: str) -> str:
    return re.sub(r"\.\d+\.", ".*.", key)


def _check_finite(network: Any) -> None:
    """Reject weights that are not finite, in the file or in the precision they are loaded in."""
    bad = sorted(
        name
        for name, tensor in network.named_parameters()
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all())
    )
    if bad:
        raise UnusableModel(
            f"its weights contain NaN or infinity: {_first_few(bad)}",
            "Download the weights again. If they are correct, they may be out of range for float16:"
            " set RERANKQ_DTYPE to bfloat16 or float32",
        )


def _check_tokenizer(encoder: CrossEncoder) -> None:
    tokenizer = encoder.tokenizer
    # transformers creates a tokenizer with only special tokens for a folder that has none.
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        raise UnusableModel(
            "it has no tokenizer: tokenizer.json is missing or has no vocabulary",
            "Add the tokenizer's files to the model's folder",
        )
    weight = getattr(encoder.model.get_input_embeddings(), "weight", None)
    if weight is None:  # a model that reads characters
        return
    largest, rows = max(tokenizer.get_vocab().values()), len(weight)
    if largest >= rows:
        raise UnusableModel(
            f"its tokenizer has token ids up to {largest:,}, but its weights have only {rows:,}"
            " embeddings",
            "Use the tokenizer and the weights of the same model",
        )


def _has_file(location: Location, name: str) -> bool:
    """Return whether a loaded model came with this file."""
    folder = location.folder()
    return folder is not None and (folder / name).is_file()


def _first_few(keys: list[str], separator: str = ", ") -> str:
    more = len(keys) - NAMED_KEYS
    return separator.join(keys[:NAMED_KEYS]) + (f" and {more} more" if more > 0 else "")
