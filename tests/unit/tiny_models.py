"""Small models with random weights in a folder: other architectures, and broken ones."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from sentence_transformers import CrossEncoder
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    BertTokenizer,
    ModernBertConfig,
    ModernBertModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from worker.engine.model_paths import bundled_path
from worker.engine.pair_layout import PairLayout

SHAPE: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "num_labels": 1,
    "initializer_range": 0.5,  # wide enough for logits that differ in the first decimal
}
#: Tiny BERTs know the first words of the bundled model: its special tokens, single characters and
#: frequent words. Writing all 30,522 would take most of a test's time.
WORDS = 3_500
BEGIN, PADDING, END, UNKNOWN = "<s>", "<pad>", "</s>", "<unk>"
#: In the order of their ids, which the default RobertaConfig expects.
ROBERTA_WORDS = (BEGIN, PADDING, END, UNKNOWN, "the", "cat", "dog", "sat", "on", "mat")
BERT_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def bert(
    folder: Path,
    *,
    change: Callable[[BertForSequenceClassification], object] | None = None,
    headless: bool = False,
    tokenizer: PreTrainedTokenizerBase | None = None,
    **config: Any,
) -> str:
    """Write a BERT, by default with `bert_tokenizer`; `change` breaks it before it is saved."""
    if change is None and tokenizer is None:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in _bert_files(headless, tuple(sorted(config.items()))).items():
            (folder / name).write_bytes(content)
        return str(folder)
    torch.manual_seed(0)
    shape = BertConfig(**(SHAPE | {"vocab_size": WORDS} | config))
    model = BertForSequenceClassification(shape)
    if change is not None:
        change(model)
    (model.bert if headless else model).save_pretrained(folder)
    (tokenizer or bert_tokenizer()).save_pretrained(folder)
    return str(folder)


@lru_cache(maxsize=32)
def _bert_files(headless: bool, config: tuple[tuple[str, Any], ...]) -> dict[str, bytes]:
    """Return the files of a BERT by their names. Most tests use one of a few."""
    with TemporaryDirectory() as folder:
        bert(Path(folder), headless=headless, tokenizer=bert_tokenizer(), **dict(config))
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def bert_of_large_pairs(folder: Path) -> str:
    """Save a BERT that needs 128 MiB at once for a long pair: 4,096 tokens x 8,192 features."""
    tokenizer = bert_tokenizer()
    tokenizer.model_max_length = 4_096
    shape: dict[str, Any] = {
        "hidden_size": 8,
        "intermediate_size": 8_192,
        "max_position_embeddings": 4_096,
    }
    return bert(folder, tokenizer=tokenizer, **shape)


def modernbert_modules(folder: Path, pooling: str) -> str:
    """Write a ModernBERT whose head is in modules of sentence-transformers, as ettin-reranker's."""
    from sentence_transformers.base.modules import Dense, Transformer
    from sentence_transformers.sentence_transformer.modules import LayerNorm, Pooling

    torch.manual_seed(0)
    tokenizer = bert_tokenizer()
    special = {"pad_token_id": 0, "cls_token_id": 2, "sep_token_id": 3}
    own = {"vocab_size": WORDS, "local_attention": 16, "max_position_embeddings": 512}
    shape = SHAPE | own | special | {"num_hidden_layers": 4, "head_dim": 16}
    ModernBertModel(ModernBertConfig(**shape)).save_pretrained(folder / "own")
    tokenizer.save_pretrained(folder / "own")
    hidden = SHAPE["hidden_size"]
    encoder = CrossEncoder(
        modules=[
            Transformer(str(folder / "own")),
            Pooling(hidden, pooling_mode=pooling),
            Dense(hidden, hidden, activation_function=torch.nn.GELU()),
            LayerNorm(hidden),
            Dense(hidden, 1, activation_function=None, module_output_name="scores"),
        ],
        device="cpu",
    )
    encoder.save_pretrained(str(folder))
    return str(folder)


def layout(tokenizer: PreTrainedTokenizerBase) -> PairLayout:
    """Return the layout of a tokenizer's pairs."""
    found = PairLayout.of(tokenizer)
    assert found is not None
    return found


def roberta(folder: Path) -> str:
    """Write a RoBERTa (no token types, other special tokens) of six words and 62 tokens."""
    torch.manual_seed(0)
    own = {"vocab_size": len(ROBERTA_WORDS), "max_position_embeddings": 64, "type_vocab_size": 1}
    shape = RobertaConfig(**(SHAPE | own))
    RobertaForSequenceClassification(shape).save_pretrained(folder)
    numbers = {word: number for number, word in enumerate(ROBERTA_WORDS)}
    words = Tokenizer(models.WordLevel(numbers, UNKNOWN))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.RobertaProcessing((END, 2), (BEGIN, 0))
    wrapped(
        words,
        model_max_length=62,
        bos_token=BEGIN,
        cls_token=BEGIN,
        eos_token=END,
        sep_token=END,
        pad_token=PADDING,
        unk_token=UNKNOWN,
    ).save_pretrained(folder)
    return str(folder)


def bundled_tokenizer() -> PreTrainedTokenizerBase:
    """Return a BERT's tokenizer of 30,522 words."""
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(bundled_path())
    return tokenizer


def bert_tokenizer() -> PreTrainedTokenizerBase:
    """Return the bundled model's tokenizer with its first `WORDS` words, which keep their ids."""
    tokenizer: Any = BertTokenizer
    made: PreTrainedTokenizerBase = tokenizer(vocab=dict(_first_words()), model_max_length=512)
    return made


@lru_cache(maxsize=1)
def _first_words() -> tuple[tuple[str, int], ...]:
    words = bundled_tokenizer().get_vocab().items()
    return tuple((word, number) for word, number in words if number < WORDS)


def wordpiece(words: Iterable[str] = ()) -> Tokenizer:
    """Return a BERT's tokenizer that knows only these words, without a wrapper."""
    numbers = {word: number for number, word in enumerate((*BERT_TOKENS, *words))}
    backend = Tokenizer(models.WordPiece(numbers, unk_token=BERT_TOKENS[1]))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return backend


def in_pairs(backend: Tokenizer, pair: str = "[CLS] $A [SEP] $B:1 [SEP]:1") -> Any:
    """Return `backend` as a model's tokenizer that makes `pair` of a query A and a document B."""
    ids = [(name, backend.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    backend.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", pair, ids)
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    return wrapped(
        backend,
        model_max_length=512,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        **dict(zip(names, BERT_TOKENS, strict=True)),
    )


def wrapped(backend: Tokenizer, **settings: Any) -> Any:
    """Wrap `backend` as transformers does. (A BertTokenizer would change it.)"""
    tokenizer: Any = PreTrainedTokenizerFast
    return tokenizer(tokenizer_object=backend, **settings)


def edit_json(path: Path, **changes: object) -> None:
    """Change a model's settings where they are saved."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def fill_head(value: float) -> Callable[[BertForSequenceClassification], object]:
    """Return a change that sets every weight of the classifier to this value."""
    return lambda model: model.classifier.weight.data.fill_(value)


def halve(model: Any) -> None:
    """Convert a model to half precision."""
    model.half()
