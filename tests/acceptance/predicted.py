"""The scores of sentence-transformers with the bundled model, as a process.

    python -m tests.acceptance.predicted FILE

prints, as JSON, the scores of the pairs of texts in a JSON file.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from worker.engine.model_paths import bundled_path


def main(file: Path) -> None:
    import torch
    from sentence_transformers import CrossEncoder

    torch.set_num_threads(1)  # which takes less CPU time
    scores = CrossEncoder(str(bundled_path()), device="cpu").predict(json.loads(file.read_text()))
    print(json.dumps(scores.tolist()))  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]))
