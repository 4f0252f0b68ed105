"""A network on a GPU has all its tensors there, and the host waits for none of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers.base.modules import Dense
from sentence_transformers.sentence_transformer.modules import LayerNorm, Pooling
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    ElectraConfig,
    ElectraForSequenceClassification,
    ModernBertConfig,
    ModernBertForSequenceClassification,
    ModernBertModel,
    RobertaConfig,
    XLMRobertaForSequenceClassification,
)

from tests.unit import tiny_models
from tests.unit.fake_gpu import GPU, fake_gpu, move
from tests.unit.predict_scores import PAIRS as PAIRS_OF_TEXT
from tests.unit.predict_scores import open_encoder
from tests.unit.varlen_layout import columns
from worker.engine import varlen
from worker.engine.families import (
    bert,
    distilbert,
    electra,
    modernbert,
    modernbert_modules,
    roberta,
)
from worker.engine.families.family import Family
from worker.engine.gpu_engine import GpuEngine
from worker.engine.linear import Linear
from worker.engine.pair_layout import PairLayout, PairTokens
from worker.engine.varlen import VarlenFunction
from worker.engine.varlen_functions import padded, torch_varlen

SHAPE: dict[str, Any] = {
    "vocab_size": 100,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "num_labels": 1,
    "pad_token_id": 1,
}
MODERN: dict[str, Any] = {"local_attention": 16, "bos_token_id": 0, "eos_token_id": 2}

#: Makes a model with weights of a type: its family, itself, and modules that score its states.
Make = Callable[[torch.dtype], tuple[Family, Any, list[Any]]]


def of(family: Family, model: Any, config: Any, **more: Any) -> Make:
    """Return what makes a model of a family."""
    return lambda dtype: (family, model._from_config(config(**(SHAPE | more)), dtype=dtype), [])


def of_modules(pooling: str) -> Make:
    """Return what makes a ModernBERT in modules, as ettin-reranker has them."""

    def make(dtype: torch.dtype) -> tuple[Family, Any, list[Any]]:
        model: Any = ModernBertModel
        hidden = SHAPE["hidden_size"]
        head = [
            Dense(hidden, hidden, activation_function=torch.nn.GELU()).to(dtype),
            LayerNorm(hidden).to(dtype),
            Dense(hidden, 1, activation_function=None, module_output_name="scores").to(dtype),
        ]
        modules: Any = [None, Pooling(hidden, pooling_mode=pooling), *head]
        family = modernbert_modules.family_of(modules)
        assert family is not None
        return family, model._from_config(ModernBertConfig(**(SHAPE | MODERN)), dtype=dtype), head

    return make


FAMILIES = {
    "BERT": of(bert.FAMILY, BertForSequenceClassification, BertConfig),
    "XLM-R": of(
        roberta.FAMILY, XLMRobertaForSequenceClassification, RobertaConfig, type_vocab_size=1
    ),
    "ELECTRA": of(
        electra.FAMILY, ElectraForSequenceClassification, ElectraConfig, embedding_size=16
    ),
    "DistilBERT": of(
        distilbert.FAMILY,
        DistilBertForSequenceClassification,
        DistilBertConfig,
        dim=32,
        n_heads=2,
        n_layers=3,
        hidden_dim=48,
    ),
    "ModernBERT": of(
        modernbert.FAMILY, ModernBertForSequenceClassification, ModernBertConfig, **MODERN
    ),
    "ModernBERT of means": of(
        modernbert.FAMILY,
        ModernBertForSequenceClassification,
        ModernBertConfig,
        **MODERN,
        classifier_pooling="mean",
    ),
    "ettin": of_modules("cls"),
    "ettin of means": of_modules("mean"),
}

PADDED = padded()
BEFORE, BETWEEN, AFTER = (np.array(ids, np.int32) for ids in ([0], [2, 2], [2]))
LAYOUT = PairLayout(BEFORE, BETWEEN, AFTER, padding_id=1)
PAIRS = columns(
    [PairTokens(np.full(5, 7, np.int32), np.full(size, 9, np.int32), 0, 4) for size in (90, 40, 3)]
)


HALF, WIDE = torch.float16, torch.bfloat16


@pytest.mark.parametrize(
    ("name", "dtype", "function"),
    [
        *((name, HALF, torch_varlen()) for name in FAMILIES),
        *((name, HALF, PADDED) for name in ("BERT", "ModernBERT", "ettin of means")),
        *((name, WIDE, torch_varlen()) for name in ("XLM-R", "ettin")),
    ],
)
def test_a_network_computes_all_on_the_gpu_and_waits_for_nothing(
    name: str, dtype: torch.dtype, function: VarlenFunction
) -> None:
    family, model, head = FAMILIES[name](dtype)
    assert family.supports(model)
    with fake_gpu() as gpu:
        for each in (model, *head):
            move(each)
        network = family.network(model, Linear)
        logits = network(varlen.lay_out(PAIRS, range(3), LAYOUT, function))
    assert (network.device, logits.device) == (GPU, GPU)
    assert (logits.shape, logits.dtype) == ((3,), torch.float32)
    assert gpu.waits == []
    kernels = gpu.operations.count("torch_attn::_varlen_attn")
    assert kernels == (0 if function is PADDED else SHAPE["num_hidden_layers"])


def test_a_run_waits_once(tmp_path: Path) -> None:
    encoder = open_encoder(tiny_models.bert(tmp_path), "float16")
    with fake_gpu() as gpu:
        move(encoder.model)
        engine = GpuEngine(encoder, torch_varlen())
        engine.tune(None, 500)
        output = engine.run(PAIRS_OF_TEXT)
    assert len(output.scores) == len(PAIRS_OF_TEXT)
    batches = (
        gpu.operations.count("torch_attn::_varlen_attn") / encoder.model.config.num_hidden_layers
    )
    assert batches > 3
    assert len(gpu.waits) == 1
