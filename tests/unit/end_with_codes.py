"""`python -m tests.unit.end_with_codes FILE CODES`: note each run in a file, then end with a code.

The first run ends with the first of the codes, the next with the next; `wait` waits for a signal.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from worker.runtime.restart import DELAY_VARIABLE

if __name__ == "__main__":
    runs, codes = Path(sys.argv[1]), sys.argv[2:]
    with runs.open("a") as file:
        file.write(f"{os.environ[DELAY_VARIABLE]}\n")
    number = len(runs.read_text().split())
    code = codes[min(number, len(codes)) - 1]
    if code == "wait":
        signal.pause()
    sys.exit(int(code))
