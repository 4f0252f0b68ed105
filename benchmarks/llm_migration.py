"""Compare an LLM reranker with a cross-encoder: calls, seconds, tokens and cost per query.

    python -m benchmarks.llm_migration [--latency 0.8] [--concurrency 8] [--queries 5]

The language model is a stand-in on loopback that takes `--latency` seconds for each call. The
calls and the waiting are real, but its ratings mean nothing. To measure a real endpoint, set
OPENAI_BASE_URL and OPENAI_API_KEY, and pass `--model`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from producer.llm import LLMReranker
from tests import llm_server
from worker.inprocess import CrossEncoderReranker

SAMPLE = Path(__file__).parents[1] / "examples" / "packages"
CROSS_ENCODER = "bundled"


def main() -> None:
    """Print a table in Markdown."""
    options = _options()
    queries = _sample(options.queries)
    documents = statistics.mean(len(texts) for _, texts in queries)
    with ExitStack() as stack:
        if "OPENAI_BASE_URL" in os.environ:
            llm = LLMReranker(options.model, concurrency=options.concurrency)
        else:
            served = stack.enter_context(llm_server.serving(latency_s=options.latency))
            llm = LLMReranker(
                llm_server.MODEL,
                base_url=served.url,
                api_key=llm_server.API_KEY,
                concurrency=options.concurrency,
            )
        seconds = _seconds(llm.rank, queries)
        used = llm.usage
    cross_encoder = CrossEncoderReranker(CROSS_ENCODER)
    cross_encoder.warm_up()
    n = len(queries)
    cost = used.cost(options.prompt_price, options.completion_price) / n
    rows = (
        f"{n} queries of the sample, {documents:.0f} documents each; per query:",
        "| | calls | seconds | prompt tokens | cost |",
        "| --- | ---: | ---: | ---: | ---: |",
        f"| {llm.model_name} | {used.requests / n:.0f} | {seconds:.2f} |"
        f" {used.prompt_tokens / n:,.0f} | {cost:.4f} |",
        f"| {CROSS_ENCODER} | 0 | {_seconds(cross_encoder.rank, queries):.2f} | 0 | 0 |",
    )
    sys.stdout.write("\n".join(rows) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--latency", type=float, default=0.8, help="seconds per call (stand-in)")
    parser.add_argument("--concurrency", type=int, default=8, help="calls at once")
    parser.add_argument("--queries", type=int, default=5)
    parser.add_argument("--model", default=llm_server.MODEL, help="the model of a real endpoint")
    parser.add_argument("--prompt-price", type=float, default=0.15, help="per million tokens")
    parser.add_argument("--completion-price", type=float, default=0.6, help="per million tokens")
    return parser.parse_args()


def _sample(queries: int) -> list[tuple[str, list[str]]]:
    """Return the first queries of the sample with the texts of their candidates."""
    texts = {each["_id"]: each["text"] for each in _lines("corpus.jsonl")}
    asked = {each["_id"]: each["text"] for each in _lines("queries.jsonl")}
    found: dict[str, list[str]] = {}
    for line in (SAMPLE / "bm25.trec").read_text().splitlines():
        query_id, _, document_id, *_ = line.split()
        found.setdefault(query_id, []).append(texts[document_id])
    return [(asked[query_id], documents) for query_id, documents in list(found.items())[:queries]]


def _lines(name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (SAMPLE / name).read_text().splitlines()]


def _seconds(
    rank: Callable[[str, Sequence[str]], object], queries: Sequence[tuple[str, Sequence[str]]]
) -> float:
    """Return the median seconds of a query."""
    seconds = []
    for query, texts in queries:
        began = time.perf_counter()
        rank(query, texts)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


if __name__ == "__main__":
    main()
