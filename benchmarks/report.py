"""Format the results of a run as Markdown tables."""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks import families_report, machine
from benchmarks.markdown import between, number, table
from benchmarks.measure import CALL_SIZES
from benchmarks.records import EXACT, Bench, Call, Scored
from benchmarks.shapes import SHAPES
from benchmarks.ways import BATCH_SIZES
from benchmarks.work import KINDS


def markdown(bench: Bench) -> str:
    """Return all tables of the run."""
    parts = [
        f"{machine.title(bench.machine)}. Each figure is the median of {bench.options['repeats']}"
        " repeats in random order, with the lowest and the highest. Scores within"
        f" {EXACT:g} of `predict` count as exact. The run took {bench.took_s / 60:.0f} minutes.",
        *(f"Note: {note}." for note in bench.notes),
        *_cells(bench),
        families_report.families(bench.families),
        _ceilings(bench),
        _calls(bench),
        _queue(bench),
        _memory(bench),
        _failed(bench),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _cells(bench: Bench) -> Iterable[str]:
    for shape in SHAPES.values():
        for kind in KINDS.values():
            records = [
                each
                for each in bench.scored
                if (each.model, each.documents) == (shape.name, kind.name)
            ]
            if records:
                yield _cell(f"{shape.title}, {kind.title}", records)


def _cell(title: str, records: list[Scored]) -> str:
    first = records[0]
    tokens = sum(first.tokens) / sum(first.pairs)
    head = (
        f"### {title}\n\n{first.pairs[0]} pairs per repeat, {tokens:.0f} tokens per pair. *Ratio*"
        " is relative to `predict` at its best batch size. *Share* compares useful work with the"
        " ceiling.\n\n"
    )
    return head + table(
        (
            "library",
            "pairs/s",
            "lowest to highest",
            "tokens/s",
            "ratio",
            "share",
            "peak RSS",
            "scores",
        ),
        [
            (
                _name(each),
                number(each.pairs_per_s.median),
                f"{number(each.pairs_per_s.low)} to {number(each.pairs_per_s.high)}",
                f"{each.tokens_per_s.median:,.0f}",
                f"{each.ratio.median:.2f}",
                f"{each.share_of_ceiling.median:.0%}",
                f"{each.peak_rss_mb:,.0f} MB",
                _agreement(each),
            )
            for each in records
        ],
    )


def _ceilings(bench: Bench) -> str:
    if not bench.ceilings:
        return ""
    return "### The ceiling: GFLOP/s of float32 matrix products\n\n" + table(
        ("model shapes", "linear", "packed by oneDNN", "ceiling"),
        [
            (
                SHAPES[each.model].title,
                f"{each.linear_gflops.median:.0f} ({between(each.linear_gflops)})",
                f"{each.packed_gflops.median:.0f} ({between(each.packed_gflops)})",
                f"{each.gflops:.0f}",
            )
            for each in bench.ceilings
        ],
    )


def _calls(bench: Bench) -> str:
    rows = []
    for shape in SHAPES.values():
        ms = {(each.documents, each.way): each for each in bench.calls if each.model == shape.name}
        if not ms:
            continue
        for title, ways in (
            ("rerankq", ["rerankq"]),
            ("predict, default batch of 32", ["predict-32"]),
            ("predict, best batch", [f"predict-{size}" for size in BATCH_SIZES]),
        ):
            best = [_best(ms, size, ways) for size in CALL_SIZES]
            rows.append((f"{shape.title}: {title}", *(_call(each) for each in best)))
        published = (
            tuple(f"~{shape.reference_call_ms[size]} ms" for size in CALL_SIZES)
            if shape.reference_call_ms
            else (shape.reference_call, "", "")
        )
        rows.append((f"{shape.reference}: published figures, from another machine", *published))
    if not rows:
        return ""
    return "### One call with one query and short documents\n\n" + table(
        ("", *(f"{size} documents" for size in CALL_SIZES)), rows
    )


def _best(ms: dict[tuple[int, str], Call], size: int, ways: list[str]) -> Call | None:
    calls = [ms[size, way] for way in ways if (size, way) in ms]
    return min(calls, key=lambda call: call.ms.median, default=None)


def _call(call: Call | None) -> str:
    return f"{call.ms.median:.1f} ms ({between(call.ms)})" if call else "-"


def _queue(bench: Bench) -> str:
    if not bench.queue:
        return ""
    rows = table(
        (
            "model",
            "children x threads",
            "pairs/s",
            "engine alone",
            "ratio",
            "small job",
            "in-process",
            "added",
            "scores differ by",
        ),
        [
            (
                SHAPES[each.model].title,
                f"{each.children} x {each.threads_each}",
                f"{number(each.pairs_per_s.median)} ({between(each.pairs_per_s)})",
                number(each.in_process_pairs_per_s.median),
                f"{each.ratio.median:.2f}",
                f"{each.call_ms.median:.1f} ms",
                f"{each.in_process_ms.median:.1f} ms",
                f"{each.added_ms.median:.1f} ms ({between(each.added_ms)})",
                f"{each.max_difference:.0e}",
            )
            for each in bench.queue
        ],
    )
    burst = "".join(
        f"\n\nOne asyncio program submitted and awaited {each.jobs:,} jobs of three documents at"
        f" once in {each.seconds:.1f} s. Its event loop was never blocked for longer than"
        f" {each.worst_loop_delay_ms:.0f} ms."
        for each in bench.bursts
    )
    return (
        "### Through Redis and a worker\n\nThe documents are real. *Engine alone* is"
        " `Scorer.score` in as many processes with as many threads. A *small job* has 20 short"
        f" documents, and its worker was idle: medians and quartiles of {bench.queue[0].calls}"
        f" jobs.\n\n{rows}{burst}"
    )


def _memory(bench: Bench) -> str:
    if not bench.memory:
        return ""
    return (
        "### Memory of a worker child after scoring\n\nRSS counts shared pages in full. PSS"
        " counts each child's share of them.\n\n"
    ) + table(
        ("model", "child", "RSS", "PSS", "peak RSS", "published RAM"),
        [
            (
                SHAPES[each.model].title,
                str(each.child),
                f"{each.rss_mb:.0f} MB",
                f"{each.pss_mb:.0f} MB",
                f"{each.peak_rss_mb:.0f} MB",
                f"~{SHAPES[each.model].reference_ram_mb} MB ({SHAPES[each.model].reference})",
            )
            for each in bench.memory
        ],
    )


def _failed(bench: Bench) -> str:
    if not bench.failed:
        return ""
    return "### Not measured\n\n" + table(
        ("model", "what", "reason"),
        [(_title(each.model), each.what, each.reason.replace("|", "\\|")) for each in bench.failed],
        rule="---",
    )


def _name(record: Scored) -> str:
    return f"**{record.title}**" if record.way == "rerankq" else record.title


def _agreement(record: Scored) -> str:
    label = "" if record.exact else ", not exact"
    return f"{record.max_difference:.0e}{label}"


def _title(model: str) -> str:
    return SHAPES[model].title if model in SHAPES else model
