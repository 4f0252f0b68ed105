"""Print a line for each step of long work, with the elapsed and the remaining time."""

from __future__ import annotations

import time

import click


class Progress:
    """Progress in steps with estimated durations, which are corrected by measured ones."""

    def __init__(self, total_s: float) -> None:
        self._total_s = total_s
        self._done_s = 0.0
        self._began = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._began

    def step(self, text: str, guess_s: float = 0.0) -> None:
        """Print the step that starts now, which is estimated to take `guess_s` seconds."""
        left_s = self._total_s - self._done_s
        # Correct the estimate by the time of earlier steps, once there are enough of them.
        if self._done_s > 0.1 * self._total_s:
            left_s *= self.elapsed_s / self._done_s
        click.echo(f"[{_clock(self.elapsed_s)}, {_clock(max(0.0, left_s))} left] {text}", err=True)
        self._done_s += guess_s

    def note(self, text: str) -> None:
        """Print a remark about the step."""
        click.echo(f"{'':20}{text}", err=True)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes:2d}:{rest:02d}"
