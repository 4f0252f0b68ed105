"""What the way through Redis costs, against a service that is up (`rerankq up --model bundled`).

python benchmarks/queue_path.py --jobs 1000
"""

from __future__ import annotations

import asyncio
import statistics
import time

import click

from producer import AsyncRerankClient, RerankClient

DOCUMENTS = [f"document {number} is about something or other" for number in range(20)]


class LoopDelay:
    """The longest time in which the event loop did not come round. Use it in a `with` block."""

    async def __aenter__(self) -> LoopDelay:
        self.worst_s = 0.0
        self._task = asyncio.create_task(self._tick())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()

    async def _tick(self) -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0.001)
            self.worst_s = max(self.worst_s, time.perf_counter() - began - 0.001)


async def many(jobs: int) -> tuple[float, float]:
    """Seconds for so many jobs submitted and awaited at once, and the loop's worst delay."""
    async with AsyncRerankClient() as client, LoopDelay() as delay:
        began = time.perf_counter()
        await asyncio.gather(
            *(client.rerank(f"query {number}", DOCUMENTS[:3]) for number in range(jobs))
        )
        return time.perf_counter() - began, delay.worst_s


def one(repeats: int) -> tuple[float, float]:
    """Median seconds of one job of 20 documents as its caller sees it, and inside the worker."""
    outside, inside = [], []
    with RerankClient() as client:
        for number in range(repeats):
            began = time.perf_counter()
            result = client.rerank(f"query {number}", DOCUMENTS)
            outside.append(time.perf_counter() - began)
            inside.append(result.provenance.seconds)
    return statistics.median(outside), statistics.median(inside)


@click.command()
@click.option("--jobs", default=1000, show_default=True)
@click.option("--repeats", default=50, show_default=True)
def main(jobs: int, repeats: int) -> None:
    """Print the figures."""
    outside, inside = one(repeats)
    click.echo(
        f"one job of {len(DOCUMENTS)} documents: {outside * 1000:.1f} ms for its caller,"
        f" {inside * 1000:.1f} ms in the worker (medians of {repeats})"
    )
    seconds, worst = asyncio.run(many(jobs))
    click.echo(
        f"{jobs} jobs at once: {seconds:.1f} s ({jobs / seconds:.0f} jobs/s),"
        f" the event loop never waited longer than {worst * 1000:.0f} ms"
    )


if __name__ == "__main__":
    main()
