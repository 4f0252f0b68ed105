"""Run the search application: `python -m examples.search`."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import click
import uvicorn
from pydantic import ValidationError

from contract import validation
from contract.models import BUNDLED
from examples.search.app import create_app
from examples.search.embeddings import SentenceEmbedder
from examples.search.settings import SearchSettings
from worker.inprocess import PipelineSettings


@click.command(context_settings={"show_default": True})
@click.option("--host", default="127.0.0.1", help="The address to listen on.")
@click.option("--port", default=8000, help="The port to listen on.")
@click.option(
    "--collection",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A folder with corpus.jsonl and queries.jsonl.  [default: the sample collection]",
)
@click.option("--milvus-uri", help="A file *.db, or a Milvus server.  [default: .search/milvus.db]")
@click.option("--embedding-model", help="The embedding model.  [default: packaged]")
@click.option("--reranker-model", help="The reranking model.  [default: bundled]")
@click.option(
    "--rerank-with",
    type=click.Choice(["in-process", "queue"]),
    help="Where to rerank.  [default: in-process]",
)
def main(host: str, port: int, reranker_model: str | None, **given: Any) -> None:
    """Serve the page and POST /search. Options take precedence over environment variables."""
    settings, pipeline = _settings(given, reranker_model)
    _configure_logging()
    click.echo(f"embeddings  {SentenceEmbedder(settings.embedding_model).name}")
    click.echo(f"reranker    {pipeline.reranker_model}, {settings.rerank_with}")
    uvicorn.run(create_app(settings, pipeline), host=host, port=port, access_log=False)


def _settings(
    given: dict[str, Any], reranker_model: str | None
) -> tuple[SearchSettings, PipelineSettings]:
    """Return the settings of options and variables. Raises `click.UsageError`."""
    variables = ("RERANKER_MODEL", "CROSS_ENCODER_MODEL")
    named = next(filter(None, map(os.environ.get, variables)), None)
    try:
        settings = SearchSettings(
            **{name: each for name, each in given.items() if each is not None}
        )
        pipeline = PipelineSettings(reranker_model=reranker_model or named or BUNDLED)
    except ValidationError as error:
        raise click.UsageError(validation.describe(error)) from error
    if not (settings.collection / "corpus.jsonl").is_file():
        raise click.UsageError(f"there is no corpus.jsonl in {settings.collection}")
    return settings, pipeline


def _configure_logging() -> None:
    logging.basicConfig(format="%(levelname)s:     %(message)s")
    for name in ("examples", "worker"):
        logging.getLogger(name).setLevel(logging.INFO)
    # The embedded Milvus logs a traceback for each call that it does not implement.
    logging.getLogger("grpc._server").setLevel(logging.CRITICAL)


if __name__ == "__main__":
    main()
