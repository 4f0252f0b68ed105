"""Small models of random weights, written to a folder: other architectures, and broken ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from worker.models import BUNDLED_PATH

SHAPE: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "num_labels": 1,
    "initializer_range": 0.5,  # wide enough for logits that differ in the first decimal
}
BEGIN, PADDING, END, UNKNOWN = "<s>", "<pad>", "</s>", "<unk>"
#: In the order of their ids, which the default RobertaConfig expects.
ROBERTA_WORDS = (BEGIN, PADDING, END, UNKNOWN, "the", "cat", "dog", "sat", "on", "mat")


def bert(
    folder: Path,
    *,
    change: Callable[[BertForSequenceClassification], object] | None = None,
    headless: bool = False,
    **config: Any,
) -> str:
    """A BERT with the bundled model's tokenizer; `change` spoils it before it is saved."""
    torch.manual_seed(0)
    shape = BertConfig(**(SHAPE | {"vocab_size": 30_522} | config))
    model = BertForSequenceClassification(shape)
    if change is not None:
        change(model)
    (model.bert if headless else model).save_pretrained(folder)
    AutoTokenizer.from_pretrained(BUNDLED_PATH).save_pretrained(folder)
    return str(folder)


def roberta(folder: Path) -> str:
    """A RoBERTa (no token types, other special tokens) that knows six words and reads 62 tokens."""
    torch.manual_seed(0)
    own = {"vocab_size": len(ROBERTA_WORDS), "max_position_embeddings": 64, "type_vocab_size": 1}
    shape = RobertaConfig(**(SHAPE | own))
    RobertaForSequenceClassification(shape).save_pretrained(folder)
    numbers = {word: number for number, word in enumerate(ROBERTA_WORDS)}
    words = Tokenizer(models.WordLevel(numbers, UNKNOWN))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.RobertaProcessing((END, 2), (BEGIN, 0))
    tokenizer: Any = PreTrainedTokenizerFast
    tokenizer(
        tokenizer_object=words,
        model_max_length=62,
        bos_token=BEGIN,
        cls_token=BEGIN,
        eos_token=END,
        sep_token=END,
        pad_token=PADDING,
        unk_token=UNKNOWN,
    ).save_pretrained(folder)
    return str(folder)


def fill_head(value: float) -> Callable[[BertForSequenceClassification], object]:
    """A change that gives every weight of the classifier this value."""
    return lambda model: model.classifier.weight.data.fill_(value)


def halve(model: Any) -> None:
    """A change to half precision."""
    model.half()
