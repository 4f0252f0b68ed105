"""Load models in a new process, and print the imported modules, the scores and the error.

    python -m tests.unit.fresh_engine MODEL...

The hub's client reads its environment when it is imported, so this needs a new process.
"""

from __future__ import annotations

import gc
import json
import sys

from contract.errors import ModelUnavailable
from worker.engine import load


def main() -> None:
    gc.disable()  # which saves a sixth of the time of the imports
    load("bundled", threads=1, max_batch_tokens=512)
    imported = list(sys.modules)
    scorers = [load(model, threads=1, max_batch_tokens=512) for model in sys.argv[1:]]
    scores = {each.model: (each.revision, each.score([("a", "b")])[0]) for each in scorers}
    try:
        load("nobody/never-published")
    except ModelUnavailable as error:
        print(json.dumps({"imported": imported, "scores": scores, "error": str(error)}))  # noqa: T201


if __name__ == "__main__":
    main()
