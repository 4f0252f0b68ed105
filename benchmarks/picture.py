"""Draw bench.png from the tables in the results, with a row for each machine that has figures.

`make bench` draws it. Run `python -m benchmarks.picture` after `make bench-gpu`, which needs no
matplotlib.
"""

from __future__ import annotations

from pathlib import Path

import click

from benchmarks import figures
from benchmarks.options import RESULTS


def draw(folder: Path) -> bool:
    """Draw bench.png from bench.md and gpu.json; return False if neither has figures."""
    from benchmarks import plots  # matplotlib is large, and is not installed everywhere

    machines = [figures.of_cpu(folder / "bench.md"), figures.of_gpu(folder / "gpu.json")]
    return plots.throughput([each for each in machines if each], folder / "bench.png")


@click.command()
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=RESULTS)
def main(out: Path) -> None:
    """Draw bench.png from bench.md and gpu.json."""
    if not draw(out):
        raise click.ClickException(f"neither bench.md nor gpu.json in {out} has figures")


if __name__ == "__main__":
    main()
