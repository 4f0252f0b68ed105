"""Let the signal of the soft time limit interrupt scoring, and nothing else.

Celery sends the signal to a child whose job takes too long. The handler of its pool raises an
exception wherever the child is then. While it records an outcome, sends a message or stores the
task's result, that would be left half done. While it waits for the next job, the child would end.
"""

from __future__ import annotations

import signal

from billiard import pool
from billiard.exceptions import SoftTimeLimitExceeded


class SoftTimeLimit:
    """Raises `SoftTimeLimitExceeded` at most once, and only inside its `with` block.

    A signal outside the block has no effect: the lease compares the time before each batch, and the
    hard limit applies everywhere.
    """

    def __init__(self) -> None:
        self._may_interrupt = False

    def handle_signal(self) -> None:
        """Replace the pool's handler, which only its children have."""
        number = pool.SIG_SOFT_TIMEOUT  # None on Windows
        if number and signal.getsignal(number) is pool.soft_timeout_sighandler:
            signal.signal(number, self._interrupt)

    def __enter__(self) -> None:
        self._may_interrupt = True

    def __exit__(self, *_: object) -> None:
        self._may_interrupt = False

    def _interrupt(self, *_: object) -> None:
        # Decided here and not in the block, so that code which handles its exception, or leaves it,
        # is not interrupted again.
        if self._may_interrupt:
            self._may_interrupt = False
            raise SoftTimeLimitExceeded
