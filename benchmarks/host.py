"""Host one way in its own process: `python -m benchmarks.host WAY FOLDER THREADS`.

The protocol is JSON lines. It prints `{"ready_s": ...}` once it has loaded. For each line of pairs
on standard input, it prints `{"seconds": ..., "scores": [...]}`. It exits at the end of its
standard input, or on an error, with the reason as the last line of standard error.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import ceiling
from benchmarks.ways import WAYS


def main(way: str, folder: str, threads: str) -> None:
    """Load the way, then score until standard input ends."""
    # Libraries may print, and their output must not mix with the answers.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def answer(record: dict[str, Any]) -> None:
        answers.write(json.dumps(record) + "\n")

    began = time.perf_counter()
    load = ceiling.load if way == "ceiling" else WAYS[way].load
    score = load(Path(folder), int(threads))
    answer({"ready_s": time.perf_counter() - began})
    for line in sys.stdin:
        pairs = [(query, document) for query, document in json.loads(line)]
        began = time.perf_counter()
        scores = score(pairs)
        answer({"seconds": time.perf_counter() - began, "scores": scores})


if __name__ == "__main__":
    main(*sys.argv[1:])
