"""All errors of rerankq, in one tree.

* RerankError                  the root: has a `code`, and whether a retry can help
  x InvalidInput               the caller's data is wrong (also a ValueError)
    + LimitExceeded            too many pairs, too many bytes, too long a text
    + ModelNotAllowed          the model is not on the allow-list
    + JobConflict              the job id is taken by a job with other contents
  x RedisUnavailable           Redis refuses, does not answer, or is full; try again
    + RedisRefused             Redis refuses this command: permissions, or a key of another type
    + NotReplicated            the job is stored, but too few replicas have acknowledged it
  x Overloaded                 the queue or Redis' memory is nearly full; try again later
  x JobNotFound                never submitted, or its records have expired
    + ResultExpired            the job ended, and its result has expired or was forgotten
  x ResultTimeout              no outcome yet (also a TimeoutError)
  x NoWorker                   no worker answers
  x CacheUnusable              the file with cached scores cannot be read
    + CacheNotWritable         nothing can be added to it: the disk is full, or it is locked
  x ClientUnusable             closed, or of another event loop or process (also a RuntimeError)
  x JobSplit                   the job was split into parts; clients merge their results
  x MixedModels                parts of one query were scored by different models
  x JobFailed                  the job ended in a recorded failure, which it carries
  x PayloadMissing             the worker found no payload for the job
  x PayloadInvalid             the worker found a payload that is not a job
    + PayloadTooNew            the payload's format is newer than the worker
  x ScoringError               the model failed while scoring (also a ValueError)
    + ModelUnavailable         the model cannot be loaded
    + BadScores                NaN, or a wrong number of scores
  x OutOfMemory                the model did not fit into memory
  x TimeLimitExceeded          the job took longer than the time limit
  x AttemptsExhausted          the job's workers died in every allowed attempt

Errors of other libraries are translated in one place each:

- redis-py: `contract.store.redis_errors`
- Celery's publishing: `producer.client.publishing`
- pydantic: `contract.jobs`, with the messages of `contract.validation`
- models: `worker.engine.scorer`
"""

from __future__ import annotations

from typing import ClassVar

from contract.records import Failure, Provenance, SplitJob


class RerankError(Exception):
    """The base class of all errors of rerankq."""

    #: Stable identifier for programs, also stored in failure records.
    code: ClassVar[str] = "error"
    #: Whether the same request may succeed later, unchanged.
    retryable: bool = False
    #: Whether a job that ends with this error is kept as a dead letter. Its payload is valid, and
    #: it can succeed with another model, more memory or a repaired worker.
    dead_letter: ClassVar[bool] = False
    #: Ids of jobs that are or may be queued despite this error: see `RerankClient`.
    submitted: tuple[str, ...] = ()

    def as_failure(self, job_id: str, attempts: int) -> Failure:
        """Return the failure record of a job that ended with this error."""
        return Failure(
            job_id=job_id,
            code=self.code,
            message=str(self),
            retryable=self.retryable,
            attempts=attempts,
        )


class InvalidInput(RerankError, ValueError):
    """The caller's data is wrong; nothing was sent."""

    code = "invalid_input"


class LimitExceeded(InvalidInput):
    """The job is larger than the settings allow."""

    code = "limit_exceeded"


class ModelNotAllowed(InvalidInput):
    """The job asks for a model that is not on the allow-list."""

    code = "model_not_allowed"


class JobConflict(InvalidInput):
    """The job id is already taken by a job with other contents."""

    code = "job_conflict"


class RedisUnavailable(RerankError):
    """Redis refuses connections, does not answer, or does not accept writes."""

    code = "redis_unavailable"
    retryable = True


class RedisRefused(RedisUnavailable):
    """Redis refuses this command until its keys, users or settings are changed."""

    code = "redis_refused"
    retryable = False


class NotReplicated(RedisUnavailable):
    """The job is stored, but fewer replicas than RERANKQ_WAIT_REPLICAS have acknowledged it."""

    code = "not_replicated"


class Overloaded(RerankError):
    """The job was not accepted because the queue or Redis' memory is nearly full."""

    code = "overloaded"
    retryable = True


class JobNotFound(RerankError):
    """There is no record of the job: it was never submitted, or its records have expired."""

    code = "job_not_found"


class ResultExpired(JobNotFound):
    """The job ended, and its result has expired or was forgotten; submitting it scores it again."""

    code = "result_expired"


class ResultTimeout(RerankError, TimeoutError):
    """The job has no outcome yet."""

    code = "result_timeout"
    retryable = True


class NoWorker(RerankError):
    """No worker answers on this Redis."""

    code = "no_worker"
    retryable = True


class CacheUnusable(RerankError):
    """The file with cached scores cannot be read."""

    code = "cache_unusable"


class CacheNotWritable(CacheUnusable):
    """Nothing can be added to the file with cached scores, which can still be read."""

    code = "cache_not_writable"


class ClientUnusable(RerankError, RuntimeError):
    """The client is closed, or belongs to another event loop or process."""

    code = "client_unusable"


class JobSplit(RerankError):
    """The job was split into the parts in `split`; clients merge their results."""

    code = "job_split"

    def __init__(self, split: SplitJob) -> None:
        super().__init__(split)
        self.split = split

    def __str__(self) -> str:
        return f"job {self.split.job_id} was split into {', '.join(self.split.part_ids)}"


class MixedModels(RerankError):
    """The parts of a query that was too large for one job were scored by different models."""

    code = "mixed_models"
    #: The provenance of a part that a smaller model scored, if that is the difference.
    downgrade: Provenance | None = None


class JobFailed(RerankError):
    """The job ended with the failure in `failure`."""

    code = "job_failed"

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure)
        self.failure = failure
        self.retryable = failure.retryable

    def __str__(self) -> str:
        return f"job {self.failure.job_id} failed ({self.failure.code}): {self.failure.message}"


class PayloadMissing(RerankError):
    """The job's payload is gone from Redis."""

    code = "payload_missing"


class PayloadInvalid(RerankError):
    """The job's payload cannot be read as a job."""

    code = "payload_invalid"


class PayloadTooNew(PayloadInvalid):
    """The job's payload has a format of a newer version; an upgraded worker can read it."""

    code = "payload_too_new"
    dead_letter = True
    retryable = True


class ScoringError(RerankError, ValueError):
    """The model failed while scoring."""

    code = "scoring_failed"
    dead_letter = True


class ModelUnavailable(ScoringError):
    """The model cannot be loaded."""

    code = "model_unavailable"


class BadScores(ScoringError):
    """The model returned NaN or a wrong number of scores."""

    code = "bad_scores"


class OutOfMemory(RerankError):
    """The model did not fit into memory."""

    code = "out_of_memory"
    dead_letter = True
    retryable = True


class TimeLimitExceeded(RerankError):
    """The job took longer than the time limit."""

    code = "time_limit"
    dead_letter = True


class AttemptsExhausted(RerankError):
    """The job was started as often as allowed and never finished."""

    code = "attempts_exhausted"
    dead_letter = True
