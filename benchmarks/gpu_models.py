"""The models of the benchmark on a GPU, in the shapes of published rerankers."""

from __future__ import annotations

from benchmarks.random_models import RandomModel, bert, modernbert, xlm_roberta

#: The model that is measured through Redis too.
THROUGH_REDIS = "minilm-6"

GPU_MODELS = {
    model.name: model
    for model in (
        RandomModel("tinybert-2", "BERT, 2 layers x 128", bert, 2, 128, 2, 512),
        RandomModel(THROUGH_REDIS, "BERT, 6 layers x 384", bert, 6, 384, 12, 1536),
        RandomModel("minilm-12", "BERT, 12 layers x 384", bert, 12, 384, 12, 1536),
        RandomModel("ettin-17m", "ModernBERT, 7 layers x 256", modernbert, 7, 256, 4, 384),
        RandomModel(
            "xlm-r-large", "XLM-R, 24 layers x 1,024", xlm_roberta, 24, 1024, 16, 4096, 3_000
        ),
    )
}
#: A model that a CPU scores in no time, to try the benchmark itself.
QUICK_MODEL = RandomModel("quick", "ModernBERT, 2 layers x 32", modernbert, 2, 32, 2, 64, 60)
