"""A worker whose tasks OpenTelemetry traces into a file.

python -m tests.acceptance.traced_worker FILE -A worker worker ...
"""

from __future__ import annotations

import sys
from typing import Any

from celery.bin.celery import celery
from opentelemetry.instrumentation.celery import CeleryInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor


def main() -> None:
    file, *arguments = sys.argv[1:]
    provider = TracerProvider()
    # Line-buffered, so that a test can read a span while the worker runs.
    with open(file, "w", buffering=1) as spans:  # noqa: PTH123
        exporter = ConsoleSpanExporter(out=spans, formatter=lambda span: f"{span.to_json(None)}\n")
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        instrumentor: Any = CeleryInstrumentor
        instrumentor().instrument(tracer_provider=provider)
        celery(arguments)


if __name__ == "__main__":
    main()
