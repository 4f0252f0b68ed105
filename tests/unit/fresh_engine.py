"""Load models in a new process, and print the imported modules and the error.

    python -m tests.unit.fresh_engine

The hub's client reads its environment when it is imported, so this needs a new process.
"""

from __future__ import annotations

import json
import sys

from contract.errors import ModelUnavailable
from worker.engine import load


def main() -> None:
    load("bundled")
    imported = list(sys.modules)
    try:
        load("nobody/never-published")
    except ModelUnavailable as error:
        print(json.dumps({"imported": imported, "error": str(error)}))  # noqa: T201


if __name__ == "__main__":
    main()
