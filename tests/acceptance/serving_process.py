"""`rerankq serve` as a process that lists its modules in a file when it receives SIGUSR1.

python -m tests.acceptance.serving_process FILE --port 8080
"""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

from producer.cli import main


def list_modules(*_: object) -> None:
    """Write the names of all loaded modules, in one step."""
    unfinished = file.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(sorted(sys.modules)))
    unfinished.rename(file)


if __name__ == "__main__":
    file = Path(sys.argv[1])
    signal.signal(signal.SIGUSR1, list_modules)
    main(["serve", *sys.argv[2:]], prog_name="rerankq")
