"""Run a step again after an error, without more time than it had at first."""

from __future__ import annotations

from producer.client.steps import Heard, Step, Wait
from producer.client.watch import deadline_after, seconds_until


class ResumableStep:
    """A step, and the end of its timeout, which an error does not extend."""

    def __init__(self, step: Step) -> None:
        self._step = step
        self._deadline = deadline_after(step.timeout_s) if isinstance(step, Wait | Heard) else 0.0

    def remaining(self) -> Step:
        """Return the step with the time that is left."""
        match self._step:
            case Wait(job_ids):
                return Wait(job_ids, seconds_until(self._deadline))
            case Heard():
                return Heard(seconds_until(self._deadline) or 0.0)
        return self._step
