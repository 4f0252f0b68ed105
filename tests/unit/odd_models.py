"""Model folders as users have them: valid models of other families, and broken ones."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import CrossEncoder
from sentence_transformers.base.modules import Dense, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from tokenizers import Tokenizer, pre_tokenizers, processors
from tokenizers import models as tokenizer_models
from transformers import (
    BertConfig,
    BertForTokenClassification,
    BertModel,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    ElectraConfig,
    ElectraForSequenceClassification,
    ModernBertConfig,
    ModernBertForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3ForSequenceClassification,
    T5Config,
    T5ForConditionalGeneration,
    T5ForSequenceClassification,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
)

from tests.unit import tiny_models
from tests.unit.tiny_models import BEGIN, END, PADDING, SHAPE, UNKNOWN, WORDS

#: Declared as callables, because their parameters are known only at run time.
distilbert_config: Any = DistilBertConfig
t5_config: Any = T5Config
qwen3_classifier: Any = Qwen3ForSequenceClassification

MASK = "[MASK]"
NO_LIMIT = int(1e30)


def save(
    folder: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> str:
    """Write the model and its tokenizer, by default a tiny BERT's."""
    model.save_pretrained(folder)
    (tokenizer or tiny_models.bert_tokenizer()).save_pretrained(folder)
    return str(folder)


def tokenizer_without(**missing: Any) -> PreTrainedTokenizerBase:
    """Return a tiny BERT's tokenizer with some attributes changed."""
    tokenizer = tiny_models.bert_tokenizer()
    for name, value in missing.items():
        setattr(tokenizer, name, value)
    return tokenizer


def end_tokens(**settings: Any) -> Any:
    """Return a tokenizer like T5's and RoBERTa's: other special tokens, and `</s>` as the end."""
    numbers = {word: number for number, word in enumerate(tiny_models.ROBERTA_WORDS)}
    words = Tokenizer(tokenizer_models.WordLevel(numbers, UNKNOWN))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.post_processor = processors.TemplateProcessing("$A </s>", "$A </s> $B </s>", [(END, 2)])
    names = {"bos_token": BEGIN, "eos_token": END, "unk_token": UNKNOWN}
    return tiny_models.wrapped(words, **({"pad_token": PADDING} | names | settings))


# Valid models


def xlmr(folder: Path) -> str:
    """Write an XLM-R with 514 positions (512 are usable) and a tokenizer that states no limit."""
    torch.manual_seed(0)
    shape = XLMRobertaConfig(
        vocab_size=10, max_position_embeddings=514, pad_token_id=1, type_vocab_size=1, **SHAPE
    )
    return save(folder, XLMRobertaForSequenceClassification(shape), end_tokens(sep_token=END))


def electra(folder: Path) -> str:
    """Write an ELECTRA: no pooler, and a head of two layers."""
    torch.manual_seed(0)
    shape = ElectraConfig(vocab_size=WORDS, embedding_size=32, **SHAPE)
    return save(folder, ElectraForSequenceClassification(shape))


def distilbert(folder: Path) -> str:
    """Write a DistilBERT: no token types."""
    torch.manual_seed(0)
    shape = distilbert_config(
        vocab_size=WORDS, dim=32, n_layers=2, n_heads=2, hidden_dim=64, num_labels=1
    )
    return save(folder, DistilBertForSequenceClassification(shape))


def modernbert(folder: Path, positions: int = 8_192, max_length: int = 512) -> str:
    """Write a ModernBERT: rotary positions."""
    torch.manual_seed(0)
    ids = {f"{name}_token_id": 101 for name in ("cls", "bos")}
    shape = ModernBertConfig(
        vocab_size=WORDS,
        max_position_embeddings=positions,
        pad_token_id=0,
        sep_token_id=102,
        eos_token_id=102,
        **(SHAPE | ids),
    )
    return save(
        folder,
        ModernBertForSequenceClassification(shape),
        tokenizer_without(model_max_length=max_length),
    )


def t5(folder: Path) -> str:
    """Write a T5: relative positions, hence no limit; the last end token is scored."""
    torch.manual_seed(0)
    shape = t5_config(
        vocab_size=10,
        d_model=32,
        d_kv=16,
        d_ff=64,
        num_layers=2,
        num_heads=2,
        num_labels=1,
        pad_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
    )
    return save(folder, T5ForSequenceClassification(shape), end_tokens())


def qwen3(folder: Path, tokenizer: PreTrainedTokenizerBase | None = None, **config: Any) -> str:
    """Write a Qwen3 classifier without a padding token, which scores the last token of a pair."""
    torch.manual_seed(0)
    shape = Qwen3Config(
        vocab_size=WORDS,
        num_key_value_heads=1,
        head_dim=16,
        max_position_embeddings=256,
        **(SHAPE | {"pad_token_id": None} | config),
    )
    return save(
        folder,
        qwen3_classifier(shape),
        tokenizer or tokenizer_without(pad_token=None, eos_token=MASK),
    )


def older_file(folder: Path) -> str:
    """Write a BERT whose weights have more tensors than the model, as older versions do."""
    path = tiny_models.bert(folder)
    more = {
        "bert.embeddings.position_ids": torch.arange(512)[None],
        "cls.predictions.bias": torch.zeros(8),
    }
    edit_weights(folder, lambda weights: weights.update(more))
    return path


# Models that are not what they seem to be


def without(*keys: str) -> Callable[[Path], str]:
    """Return a function that makes a BERT whose weights lack these keys."""

    def make(folder: Path) -> str:
        path = tiny_models.bert(folder)
        edit_weights(folder, lambda weights: [weights.pop(key) for key in keys])
        return path

    return make


def headless(folder: Path, **config: Any) -> str:
    """Write an encoder whose config.json declares a classifier, or, with None, no architecture."""
    save(folder, BertModel(BertConfig(vocab_size=WORDS, **SHAPE)))
    tiny_models.edit_json(folder / "config.json", id2label={"0": "LABEL_0"}, **config)
    return str(folder)


def headless_as_classifier(folder: Path) -> str:
    return headless(folder, architectures=["BertForSequenceClassification"])


def headless_as_nothing(folder: Path) -> str:
    return headless(folder, architectures=None)


def embedding_model(folder: Path) -> str:
    """Write a SentenceTransformer: an encoder, then pooling."""
    path = tiny_models.bert(folder, headless=True)
    module = "sentence_transformers.models"
    listed = [
        {"idx": 0, "name": "0", "path": "", "type": f"{module}.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": f"{module}.Pooling"},
    ]
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    stated = {"model_type": "SentenceTransformer"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(stated))
    return path


def token_classifier(folder: Path) -> str:
    return save(folder, BertForTokenClassification(BertConfig(vocab_size=WORDS, **SHAPE)))


def generator(folder: Path, template: str | None = None) -> str:
    shape = Qwen3Config(
        vocab_size=WORDS,
        num_key_value_heads=1,
        head_dim=16,
        max_position_embeddings=256,
        **SHAPE,
    )
    return save(folder, Qwen3ForCausalLM(shape), tokenizer_without(chat_template=template))


def seq2seq(folder: Path) -> str:
    shape = t5_config(
        vocab_size=10, d_model=32, d_kv=16, d_ff=64, num_layers=1, num_heads=2, pad_token_id=1
    )
    return save(folder, T5ForConditionalGeneration(shape), end_tokens())


def several_labels(folder: Path) -> str:
    return tiny_models.bert(folder, num_labels=3)


def other_shape(folder: Path) -> str:
    """Write weights of 32 numbers a token, with a config.json that states 48."""
    path = tiny_models.bert(folder)
    tiny_models.edit_json(folder / "config.json", hidden_size=48)
    return path


def fewer_layers(folder: Path) -> str:
    path = tiny_models.bert(folder)
    tiny_models.edit_json(folder / "config.json", num_hidden_layers=1)
    return path


def more_layers(folder: Path) -> str:
    path = tiny_models.bert(folder)
    tiny_models.edit_json(folder / "config.json", num_hidden_layers=3)
    return path


def not_a_number(folder: Path) -> str:
    return tiny_models.bert(folder, change=tiny_models.fill_head(float("nan")))


def infinite(folder: Path) -> str:
    return tiny_models.bert(folder, change=tiny_models.fill_head(float("inf")))


def overflows(folder: Path) -> str:
    return tiny_models.bert(folder, change=tiny_models.fill_head(3e38))


def vocabulary_too_large(folder: Path) -> str:
    return tiny_models.bert(folder, vocab_size=1_000)


def no_padding_token(folder: Path) -> str:
    return qwen3(folder, tokenizer_without(pad_token=None))


def no_room(folder: Path) -> str:
    return tiny_models.bert(folder, tokenizer=tokenizer_without(model_max_length=3))


def no_tokenizer(folder: Path) -> str:
    path = tiny_models.bert(folder)
    for each in folder.glob("*token*"):
        each.unlink()
    return path


def no_config(folder: Path) -> str:
    path = tiny_models.bert(folder)
    (folder / "config.json").unlink()
    return path


def config_is_not_json(folder: Path) -> str:
    path = tiny_models.bert(folder)
    (folder / "config.json").write_text("{\n\nnot json")
    return path


def config_is_a_list(folder: Path) -> str:
    path = tiny_models.bert(folder)
    (folder / "config.json").write_text("[]")
    return path


def tokenizer_is_not_json(folder: Path) -> str:
    path = tiny_models.bert(folder)
    (folder / "tokenizer.json").write_text("{oops")
    return path


def changed(**config: object) -> Callable[[Path], str]:
    """Return a function that makes a BERT whose config.json has other values."""

    def make(folder: Path) -> str:
        path = tiny_models.bert(folder)
        tiny_models.edit_json(folder / "config.json", **config)
        return path

    return make


of_images = changed(model_type="vit", architectures=["ViTForImageClassification"])
quantized = changed(quantization_config={"quant_method": "gptq", "bits": 4})
unknown_activation = changed(sentence_transformers={"activation_fn": "torch.nn.Nope"})


def one_token_type(folder: Path) -> str:
    return tiny_models.bert(folder, type_vocab_size=1)


def negative_length(folder: Path) -> str:
    path = tiny_models.bert(folder)
    tiny_models.edit_json(folder / "tokenizer_config.json", model_max_length=-1)
    return path


def no_pickle(folder: Path) -> str:
    path = no_weights(folder)
    (folder / "pytorch_model.bin").write_bytes(b"PK\x03\x04 and no archive")
    return path


class Runs:
    """An object that ends the process when it is unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return os._exit, (1,)


def running_pickle(folder: Path) -> str:
    path = no_weights(folder)
    torch.save({"weight": Runs()}, folder / "pytorch_model.bin")
    return path


def unknown_type(folder: Path) -> str:
    path = tiny_models.bert(folder)
    tiny_models.edit_json(folder / "config.json", model_type="never-heard-of")
    return path


def remote_code(folder: Path) -> str:
    path = tiny_models.bert(folder)
    theirs = {
        "AutoConfig": "theirs.Config",
        "AutoModelForSequenceClassification": "theirs.Model",
    }
    tiny_models.edit_json(folder / "config.json", model_type="strange", auto_map=theirs)
    (folder / "theirs.py").write_text("raise SystemExit('was run')")
    return path


def empty_weights(folder: Path) -> str:
    path = tiny_models.bert(folder)
    (folder / "model.safetensors").write_bytes(b"")
    return path


def cut_weights(folder: Path) -> str:
    path = tiny_models.bert(folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1_000])
    return path


def pointer_weights(folder: Path) -> str:
    """Write the files that `git clone` leaves without Git LFS."""
    path = tiny_models.bert(folder)
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4\n"
    (folder / "model.safetensors").write_text(pointer)
    return path


def no_weights(folder: Path) -> str:
    path = tiny_models.bert(folder)
    (folder / "model.safetensors").unlink()
    return path


def shard_missing(folder: Path) -> str:
    path = tiny_models.bert(folder)
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    keys = sorted(weights)
    save_file({key: weights[key] for key in keys[:20]}, folder / names[0], {"format": "pt"})
    index = {
        "metadata": {"total_size": 1},
        "weight_map": {key: names[place >= 20] for place, key in enumerate(keys)},
    }
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return path


def adapter(folder: Path) -> str:
    """Write only the weights of a LoRA adapter."""
    folder.mkdir()
    config = {"peft_type": "LORA", "base_model_name_or_path": "nobody/never-published"}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return str(folder)


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    """Change a model's weights where they are saved."""
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def pooled(folder: Path) -> str:
    """Write a CrossEncoder of three modules: an encoder, mean pooling, and a dense head."""
    torch.manual_seed(0)
    tiny_models.bert(folder, headless=True)
    encoder = Transformer(str(folder))
    head = Dense(32, 1, activation_function=torch.nn.Identity(), module_output_name="scores")
    CrossEncoder(modules=[encoder, Pooling(32), head], num_labels=1).save_pretrained(str(folder))
    return str(folder)


#: Renders a prompt, a query and a document, and ends with what the model answers: 7 tokens.
CHAT_TEMPLATE = (
    "[CLS] {% for m in messages %}{{ m['role'] }} : {{ m['content'] }} . {% endfor %}"
    "[SEP] is it yes or no ? :"
)
#: The same without a place for a prompt, which it refuses, as some models do.
WITHOUT_PROMPT = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    + CHAT_TEMPLATE
)
#: A template of a model that was not trained to rerank.
OF_A_CHAT = "{% for m in messages if m['role'] == 'user' %}{{ m['content'] }}{% endfor %} [SEP] :"


def generative_reranker(
    folder: Path, template: str | None = CHAT_TEMPLATE, **chat_template: Any
) -> str:
    """Write a language model that answers yes or no, as a CrossEncoder with a chat template.

    `chat_template` are its settings.
    """
    torch.manual_seed(0)
    return _as_reranker(folder, generator(folder, template), **chat_template)


def classifying_reranker(folder: Path) -> str:
    """Write the same converted to a classifier, as a CrossEncoder with a chat template."""
    torch.manual_seed(0)
    tokenizer = tokenizer_without(padding_side="left", chat_template=CHAT_TEMPLATE)
    return _as_reranker(folder, qwen3(folder, tokenizer, pad_token_id=0))


def _as_reranker(folder: Path, path: str, **chat_template: Any) -> str:
    encoder = CrossEncoder(path, device="cpu")
    encoder[0].processing_kwargs = {"chat_template": chat_template} if chat_template else {}
    encoder.save_pretrained(str(folder))
    return path
