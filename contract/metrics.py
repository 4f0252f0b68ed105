"""The counters that all workers and producers share, in one Redis hash.

The script that records the end of a job also updates its counters: see `contract.store.scripts`.
Each job is therefore counted exactly once, even if a message is delivered twice or a call is
repeated. Counters only grow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from contract import errors, jobs
from contract.columns import ResultColumns

#: The increment of each field of the hash. A field is a counter's name, a space, and the value of
#: its label.
Counts = Mapping[str, float]
#: For each counter, a number for each value of its label; the key is "" without a label.
Totals = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Counter:
    """A number that only grows, or one number for each value of a label."""

    #: Includes the unit, unless the counter counts things.
    name: str
    help: str
    label: str | None = None
    #: Label values that are known in advance. Their series start at zero, because Prometheus sees
    #: no increase in a series that starts at one.
    values: tuple[str, ...] = ()

    def field(self, value: str = "") -> str:
        """Return the counter's field in the hash for a value of the label."""
        return f"{self.name} {value}" if self.label else self.name


#: The final states of a job ...
ENDS = (jobs.JobState.DONE, jobs.JobState.FAILED, jobs.JobState.CANCELLED)
#: ... and the codes of the failures that workers record, and of the reasons for a downgrade.
CODES = tuple(
    error.code
    for error in (
        *(errors.PayloadMissing, errors.PayloadInvalid, errors.PayloadTooNew),
        errors.LimitExceeded,
        *(errors.ModelNotAllowed, errors.ModelUnavailable, errors.ScoringError, errors.BadScores),
        *(errors.OutOfMemory, errors.TimeLimitExceeded, errors.AttemptsExhausted),
    )
)
REASONS = (errors.OutOfMemory.code, errors.TimeLimitExceeded.code, jobs.WORKER_DIED)

JOBS_ACCEPTED = Counter(
    "jobs_accepted", "Total number of jobs added to the queue, including retried dead letters."
)
JOBS_ENDED = Counter(
    "jobs_ended", "Total number of jobs that ended, by final state.", "state", ENDS
)
FAILURES = Counter("failures", "Total number of failed jobs, by failure code.", "code", CODES)
DOWNGRADES = Counter(
    "downgrades",
    "Total number of jobs scored by the downgrade model, by reason.",
    "reason",
    REASONS,
)
ATTEMPTS = Counter("attempts", "Total number of attempts that workers started.")
DEATHS = Counter("attempt_deaths", "Total number of attempts whose process was killed.")
QUERIES = Counter("queries", "Total number of queries in results, by model.", "model")
PAIRS = Counter("pairs", "Total number of query-document pairs in results, by model.", "model")
DUPLICATES = Counter(
    "duplicate_pairs",
    "Total number of pairs that reused the score of an identical pair in their job, by model.",
    "model",
)
TRUNCATED = Counter(
    "truncated_documents",
    "Total number of documents that were not read completely, by model.",
    "model",
)
UNREAD = Counter(
    "unread_tokens",
    "Approximate total number of tokens of documents that were not read, by model.",
    "model",
)
PASSAGES = Counter(
    "passages",
    "Total number of distinct passages scored, of documents cut into passages, by model.",
    "model",
)
TOKENS = Counter("tokens", "Total number of tokens scored, without padding, by model.", "model")
PADDING = Counter(
    "padding_tokens", "Total number of padding tokens added to fill batches, by model.", "model"
)
BATCHES = Counter("batches", "Total number of batches scored, by model.", "model")
SHORTAGES = Counter(
    "out_of_memory", "Total number of times that scoring ran out of memory, by model.", "model"
)
HALVINGS = Counter(
    "budget_halvings",
    "Total number of times that the batch size was halved for lack of memory, by model.",
    "model",
)
SCORING_S = Counter(
    "scoring_seconds",
    "Total seconds that children spent tokenizing and scoring, by model.",
    "model",
)
LOADING_S = Counter(
    "loading_seconds",
    "Total seconds that children spent loading and warming up models, by model.",
    "model",
)
LOADS = Counter("model_loads", "Total number of model loads, by model.", "model")
CACHE_HITS = Counter(
    "cache_hits",
    "Total number of pairs of re-scorings whose score was in a cache, by model.",
    "model",
)
CACHE_MISSES = Counter(
    "cache_misses",
    "Total number of pairs of re-scorings with a cache that had no score of them, by model.",
    "model",
)

ALL = (
    *(JOBS_ACCEPTED, JOBS_ENDED, FAILURES, DOWNGRADES, ATTEMPTS, DEATHS),
    *(QUERIES, PAIRS, DUPLICATES, TRUNCATED, UNREAD, PASSAGES, TOKENS, PADDING, BATCHES),
    *(SHORTAGES, HALVINGS, SCORING_S, LOADING_S, LOADS),
    *(CACHE_HITS, CACHE_MISSES),
)


def outcome_counts(outcome: jobs.Outcome | ResultColumns) -> Counts:
    """Return the increments for the end of a job."""
    state = jobs.JobState.after(outcome)
    counts: dict[str, float] = {JOBS_ENDED.field(state): 1}
    if isinstance(outcome, jobs.Failure):
        return counts | ({FAILURES.field(outcome.code): 1} if state is jobs.JobState.FAILED else {})
    made = outcome.provenance
    rankings = outcome.counts if isinstance(outcome, ResultColumns) else outcome.rankings
    if made.downgraded:
        counts[DOWNGRADES.field(made.reason or "")] = 1
    return counts | {
        QUERIES.field(made.model): len(rankings),
        PAIRS.field(made.model): made.pairs,
        DUPLICATES.field(made.model): made.pairs - made.unique_pairs,
        TRUNCATED.field(made.model): made.truncated,
        UNREAD.field(made.model): made.lost_tokens or 0,
        PASSAGES.field(made.model): made.passages_scored or 0,
        TOKENS.field(made.model): made.tokens,
    }


def arguments(counts: Counts) -> list[str | bytes | int]:
    """Return the increments as the last arguments of a script."""
    grown = {field: more for field, more in counts.items() if more}
    return [text for field, more in grown.items() for text in (field, f"{more:.6f}")]


def totals(reply: Mapping[Any, Any]) -> Totals:
    """Return the values in the hash, and zero for each known series that is missing."""
    found: Totals = {
        counter.name: dict.fromkeys(map(str, counter.values) if counter.label else ("",), 0.0)
        for counter in ALL
    }
    of_models = [counter.name for counter in ALL if counter.label == "model"]
    for field, amount in reply.items():
        name, _, value = field.decode().partition(" ")
        for each in of_models if name in of_models else ():
            found[each].setdefault(value, 0.0)
        found.setdefault(name, {})[value] = float(amount)
    return found
