"""Small re-scoring runs like those of the command, in this process."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from contract.settings import Settings
from producer.client.columns import ColumnsClient
from producer.formats.records import InvalidLines
from producer.rescore import runner
from producer.rescore.manifest import Manifest, ScoringSettings
from producer.rescore.options import Options
from producer.rescore.progress import Progress
from producer.rescore.resume import ResumableJournal
from producer.rescore.staging import Staging

#: Each query is a separate job.
QUERIES = 12
OPTIONS = Options(window=3, pairs_per_job=1)


@contextmanager
def staged(folder: Path) -> Iterator[Staging]:
    source = folder / "in.jsonl"
    candidates = [{"id": "d0", "text": "t"}, {"id": "d1", "text": "u"}]
    lines = (
        json.dumps({"query_id": f"q{n}", "query": "q", "candidates": candidates})
        for n in range(QUERIES)
    )
    source.write_text("\n".join(lines))
    with Staging(Settings.load(), InvalidLines()) as staging:
        staging.load_requests(str(source))
        yield staging


@contextmanager
def resumed(folder: Path) -> Iterator[ResumableJournal]:
    """Return the journal of a run in `folder`."""
    asked = ScoringSettings(model=None, depth=None, top_k=None, allow_downgrade=True)
    with staged(folder) as staging:
        wanted = Manifest.new(staging.inputs(), asked, OPTIONS.first_pairs_per_job)
        with ResumableJournal(str(folder / "out"), staging, wanted) as journal:
            yield journal


def session(
    client: ColumnsClient,
    folder: Path,
    report_progress: Callable[[Progress], object] = lambda _: None,
    options: Options = OPTIONS,
    notify: Callable[[str], object] = lambda _: None,
) -> tuple[Progress, list[dict[str, Any]]]:
    """One start of the command: its progress, and its final lines."""
    with resumed(folder) as journal:
        progress = runner.rescore(client, journal, options, report_progress, notify)
        return progress, list(journal.lines())


def interrupt_after(queries: int) -> Callable[[Progress], None]:
    """Progress that is interrupted once this many queries are scored."""

    def report_progress(progress: Progress) -> None:
        if progress.queries >= queries:
            raise KeyboardInterrupt

    return report_progress
