"""`rerankq serve` as a process that lists its modules at its end, in the file that is named first.

python -m tests.acceptance.serving_process FILE --port 8080
"""

from __future__ import annotations

import atexit
import json
import sys
from pathlib import Path

from producer.cli import main

if __name__ == "__main__":
    file = Path(sys.argv[1])
    atexit.register(lambda: file.write_text(json.dumps(sorted(sys.modules))))
    main(["serve", *sys.argv[2:]], prog_name="rerankq")
