"""Make models of random weights in the shapes of published rerankers of several families.

Their tokenizers are of the same kinds as those of the published models. A tokenizer of byte pairs
is trained on the texts of the benchmark, because its speed depends on finding the words it knows.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AlbertConfig,
    AlbertForSequenceClassification,
    BartConfig,
    BartForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    ModernBertConfig,
    ModernBertForSequenceClassification,
    PreTrainedTokenizerFast,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
)

from benchmarks.work import MAX_LENGTH
from worker.engine.model_paths import bundled_path

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
WORDS = 30_522
#: The special tokens of the trained tokenizer, in the order of their ids.
BEGIN, PADDING, END, UNKNOWN = "<s>", "<pad>", "</s>", "<unk>"


@dataclass(frozen=True)
class RandomModel:
    """A model of a benchmark, and how much of it is measured."""

    name: str
    #: The name in tables.
    title: str
    make: Callable[[dict[str, Any]], Any]
    layers: int
    hidden: int
    heads: int
    intermediate: int
    #: On a GPU: pairs for each measurement of `predict`, and for the comparison of scores.
    predict_pairs: int = 6_000

    def write(self, folder: Path, texts: Sequence[str]) -> None:
        """Write the model and its tokenizer to a folder."""
        torch.manual_seed(0)
        shape = {
            "vocab_size": WORDS,
            "num_hidden_layers": self.layers,
            "hidden_size": self.hidden,
            "num_attention_heads": self.heads,
            "intermediate_size": self.intermediate,
            "num_labels": 1,
        }
        model = self.make(shape)
        model.save_pretrained(folder)
        if isinstance(model, (BertForSequenceClassification, AlbertForSequenceClassification)):
            for name in TOKENIZER_FILES:
                shutil.copy(bundled_path() / name, folder)
        else:
            _byte_pairs(texts).save_pretrained(folder)


def bert(shape: dict[str, Any]) -> Any:
    """Return a BERT."""
    return BertForSequenceClassification(BertConfig(**shape))


def albert(shape: dict[str, Any]) -> Any:
    """Return an ALBERT, whose layers share their weights."""
    return AlbertForSequenceClassification(AlbertConfig(**shape, pad_token_id=0))


def modernbert(shape: dict[str, Any]) -> Any:
    """Return a ModernBERT."""
    special = {"pad_token_id": 1, "cls_token_id": 0, "sep_token_id": 2}
    special |= {"bos_token_id": 0, "eos_token_id": 2}
    return ModernBertForSequenceClassification(ModernBertConfig(**shape, **special))


def xlm_roberta(shape: dict[str, Any]) -> Any:
    """Return an XLM-RoBERTa, but with a smaller vocabulary."""
    own = {"max_position_embeddings": MAX_LENGTH + 2, "type_vocab_size": 1, "pad_token_id": 1}
    return XLMRobertaForSequenceClassification(XLMRobertaConfig(**shape, **own))


def bart(shape: dict[str, Any]) -> Any:
    """Return a BART, with as many layers in the decoder as in the encoder."""
    layers, heads = shape["num_hidden_layers"], shape["num_attention_heads"]
    own: dict[str, Any] = {
        "vocab_size": shape["vocab_size"],
        "d_model": shape["hidden_size"],
        "num_labels": shape["num_labels"],
        "max_position_embeddings": MAX_LENGTH + 2,
    }
    for part in ("encoder", "decoder"):
        own[f"{part}_layers"], own[f"{part}_attention_heads"] = layers, heads
        own[f"{part}_ffn_dim"] = shape["intermediate_size"]
    return BartForSequenceClassification(BartConfig(**own))


def _byte_pairs(texts: Sequence[str]) -> Any:
    backend = Tokenizer(models.BPE(unk_token=UNKNOWN))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=WORDS,
        special_tokens=[BEGIN, PADDING, END, UNKNOWN],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    backend.post_processor = processors.RobertaProcessing((END, 2), (BEGIN, 0))
    wrap: Any = PreTrainedTokenizerFast
    return wrap(
        tokenizer_object=backend,
        model_max_length=MAX_LENGTH,
        model_input_names=["input_ids", "attention_mask"],
        bos_token=BEGIN,
        cls_token=BEGIN,
        eos_token=END,
        sep_token=END,
        pad_token=PADDING,
        unk_token=UNKNOWN,
    )
