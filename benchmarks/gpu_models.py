"""Models for the benchmark on a GPU: random weights in the shapes of published rerankers.

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
class GpuModel:
    """A model of the benchmark, and how much of it is measured."""

    name: str
    #: The name in tables.
    title: str
    make: Callable[[dict[str, Any]], Any]
    layers: int
    hidden: int
    heads: int
    intermediate: int
    #: Pairs for each measurement of `predict`, and for the comparison of scores.
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
        if isinstance(model, BertForSequenceClassification):
            for name in TOKENIZER_FILES:
                shutil.copy(bundled_path() / name, folder)
        else:
            _byte_pairs(texts).save_pretrained(folder)


def _bert(shape: dict[str, Any]) -> Any:
    return BertForSequenceClassification(BertConfig(**shape))


def _modernbert(shape: dict[str, Any]) -> Any:
    special = {"pad_token_id": 1, "cls_token_id": 0, "sep_token_id": 2}
    special |= {"bos_token_id": 0, "eos_token_id": 2}
    return ModernBertForSequenceClassification(ModernBertConfig(**shape, **special))


def _xlm_roberta(shape: dict[str, Any]) -> Any:
    own = {"max_position_embeddings": MAX_LENGTH + 2, "type_vocab_size": 1, "pad_token_id": 1}
    return XLMRobertaForSequenceClassification(XLMRobertaConfig(**shape, **own))


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


#: The model that is measured through Redis too.
THROUGH_REDIS = "minilm-6"

GPU_MODELS = {
    model.name: model
    for model in (
        GpuModel("tinybert-2", "BERT, 2 layers x 128", _bert, 2, 128, 2, 512),
        GpuModel(THROUGH_REDIS, "BERT, 6 layers x 384", _bert, 6, 384, 12, 1536),
        GpuModel("minilm-12", "BERT, 12 layers x 384", _bert, 12, 384, 12, 1536),
        GpuModel("ettin-17m", "ModernBERT, 7 layers x 256", _modernbert, 7, 256, 4, 384),
        GpuModel(
            "xlm-r-large", "XLM-R, 24 layers x 1,024", _xlm_roberta, 24, 1024, 16, 4096, 3_000
        ),
    )
}
#: A model that a CPU scores in no time, to try the benchmark itself.
QUICK_MODEL = GpuModel("quick", "ModernBERT, 2 layers x 32", _modernbert, 2, 32, 2, 64, 60)
