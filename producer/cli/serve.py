"""Define `rerankq serve`, the HTTP service."""

from __future__ import annotations

import importlib.util

import click

from contract.errors import RerankError
from contract.settings import Settings
from producer.cli import common


@click.command(epilog=common.EPILOG)
@common.option("--host", default="127.0.0.1", metavar="HOST", help="Address to listen on.")
@common.option(
    "--port",
    type=common.Count(maximum=65_535),
    default=8080,
    metavar="PORT",
    help="Port to listen on.",
)
@click.pass_obj
def serve(settings: Settings, host: str, port: int) -> None:
    """Serve reranking over HTTP, for clients of Cohere, Jina and text-embeddings-inference.

    Set RERANKQ_HTTP_TOKEN to listen on an address that other machines can reach.
    """
    if importlib.util.find_spec("fastapi") is None or importlib.util.find_spec("uvicorn") is None:
        raise RerankError("the HTTP service is not installed; run `pip install 'rerankq[http]'`")
    # Imported here, because other commands need none of it.
    from producer.http import server
    from producer.http.settings import HttpSettings

    given = {"redis_url": settings.redis_url, "namespace": settings.namespace}
    server.serve(HttpSettings.load(**given), host, port)
