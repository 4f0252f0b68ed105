"""Run one start of `rescore`: open the journals, and score the queries that they lack."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace

from contract.errors import InvalidInput
from producer.client.columns import ColumnsClient
from producer.client.waiting import require_worker
from producer.files.streams import is_stream
from producer.rescore import runner
from producer.rescore.cascade import BestOf, CascadeRun, first_output
from producer.rescore.journal import Journal, journal_path
from producer.rescore.manifest import Manifest, ScoringSettings, digest
from producer.rescore.options import Cascade, Options, RetryKind
from producer.rescore.progress import Progress
from producer.rescore.resume import ResumableJournal, manifest_path
from producer.rescore.run_registration import registered
from producer.rescore.selection import Selection
from producer.rescore.staging import Staging
from producer.score_cache.cache import ScoreCache

#: Shows the progress of one round, starting from the earlier progress.
ShowProgress = Callable[[Progress], AbstractContextManager[Callable[[Progress], object]]]


def check_resumption(output: str | None, restart: bool, retry: Collection[RetryKind]) -> None:
    """Raise `InvalidInput` if the options contradict each other, or the output is a stream."""
    if restart and retry:
        raise InvalidInput(
            "--restart cannot be combined with --retry-failed or --rescore-downgraded"
        )
    if (restart or retry) and output and is_stream(output):
        raise InvalidInput(
            f"--output {output} is not a regular file; --restart, --retry-failed and"
            " --rescore-downgraded require one"
        )


@dataclass(frozen=True)
class Pass:
    """The scoring of candidates by one model, with its own journal."""

    journal: Journal
    options: Options
    #: Yields before each round: see `Journal.rounds`.
    rounds: Callable[[Collection[RetryKind]], Iterator[None]]
    pairs: int
    #: The name for its progress.
    label: str | None = None


@dataclass(frozen=True)
class Run:
    """The passes of a command, one after the other, and the rankings that are written."""

    finished: Journal | CascadeRun
    passes: Sequence[Pass]


@contextmanager
def opened(
    output: str,
    staging: Staging,
    options: Options,
    depth: int | None,
    *,
    restart: bool,
    mode: int,
    cascade: Cascade | None = None,
) -> Iterator[Run]:
    """Open the journals of an output, with the results of earlier starts.

    Raises `InvalidInput` if another process has opened them, or if the command is another one.
    """

    def opened_journal(
        output: str, options: Options, cascade: Cascade | None, selection: Selection | None = None
    ) -> Journal:
        if is_stream(output):
            return Journal(output, staging, mode, selection)
        wanted = _manifest(staging, options, depth, cascade)
        return ResumableJournal(
            output, staging, wanted, restart=restart, mode=mode, selection=selection
        )

    if cascade is None:
        with opened_journal(output, options, None) as journal:
            if restart:
                _remove_first_pass(output)
            yield Run(journal, [Pass(journal, options, journal.rounds, staging.counts().pairs)])
        return
    if not restart and not is_stream(output):
        # Before the first journal, whose message would not name --cascade.
        _check_same(output, _manifest(staging, options, depth, cascade))
    first_options, second_options = _options_of_passes(staging, options, cascade)
    with opened_journal(first_output(output), first_options, None) as first:
        selection = BestOf(first, cascade.keep)
        with opened_journal(output, second_options, cascade, selection) as second:
            run = CascadeRun(first, second, cascade, options.top_k)
            pairs = staging.counts().pairs, staging.pairs_up_to(cascade.keep)
            yield Run(run, _passes(run, (first_options, second_options), pairs))


def group_of_shards(
    staging: Staging, options: Options, depth: int | None, cascade: Cascade | None
) -> str | None:
    """Return a name that all shards of one run have in common; None for a whole run."""
    if staging.shard is None:
        return None
    settings = _settings(staging, options, depth, cascade).model_dump(exclude={"shard"})
    whole = staging.whole_inputs().model_dump()
    return f"shards-{digest([(staging.shard.count, whole, settings)])[:16]}"


def _manifest(
    staging: Staging, options: Options, depth: int | None, cascade: Cascade | None
) -> Manifest:
    settings = _settings(staging, options, depth, cascade)
    return Manifest.new(staging.inputs(), settings, options.first_pairs_per_job)


def _settings(
    staging: Staging, options: Options, depth: int | None, cascade: Cascade | None
) -> ScoringSettings:
    return ScoringSettings(
        model=options.model,
        depth=depth,
        top_k=options.top_k,
        allow_downgrade=options.allow_downgrade,
        cascade=str(cascade) if cascade else None,
        shard=str(staging.shard) if staging.shard else None,
        passages=options.passages.key if options.passages else None,
    )


def _remove_first_pass(output: str) -> None:
    """Remove what a discarded cascade has left of its first pass."""
    first = first_output(output)
    for path in (manifest_path(first), journal_path(first)):
        path.unlink(missing_ok=True)


def _check_same(output: str, wanted: Manifest) -> None:
    path = manifest_path(output)
    if found := Manifest.load(path):
        found.check_same(wanted, path)


def _options_of_passes(
    staging: Staging, options: Options, cascade: Cascade
) -> tuple[Options, Options]:
    """Return the options of the small model, and those of the large one."""
    top_k = options.top_k and max(options.top_k, cascade.keep)
    first = replace(options, model=cascade.model, top_k=top_k)
    # A document may have several passages.
    share = staging.pairs_up_to(cascade.keep) / max(1, staging.counts().pairs)
    return first, replace(options, run_pairs=round(options.run_pairs * share))


def _passes(
    run: CascadeRun, options: tuple[Options, Options], pairs: tuple[int, int]
) -> list[Pass]:
    first, second = options
    return [
        Pass(run.first, first, run.first_rounds, pairs[0], f"1 of 2, {first.name}"),
        Pass(
            run.second,
            second,
            run.second_rounds,
            pairs[1],
            f"2 of 2, {second.name}",
        ),
    ]


def score(
    client: ColumnsClient,
    one: Pass,
    retry: Collection[RetryKind],
    show_progress: ShowProgress,
    notify: Callable[[str], object],
    cache: ScoreCache | None = None,
) -> tuple[Progress, int]:
    """Score the queries that the journal of a pass lacks, then the retried ones.

    Return the progress, and the number of pairs of this start. Raises the errors of
    `runner.rescore`.
    """
    journal, options = one.journal, one.options
    progress: Progress | None = None
    scored_pairs = 0
    cached_pairs = missed_pairs = 0
    for _ in one.rounds(retry):
        children = require_worker(client, options.worker_wait_s, notify)
        earlier = journal.progress()
        with (
            show_progress(earlier) as show,
            registered(client, journal, one.pairs, earlier, show) as report_progress,
        ):
            progress = runner.rescore(
                client, journal, options, report_progress, notify, children=children, cache=cache
            )
        scored_pairs += progress.pairs - earlier.pairs
        cached_pairs += progress.cached_pairs
        missed_pairs += progress.missed_pairs
    progress = progress or journal.progress()
    progress.cached_pairs, progress.missed_pairs = cached_pairs, missed_pairs
    return progress, scored_pairs
