"""ir_datasets makes folders when it is imported; here, they are not in the user's home."""

from __future__ import annotations

import atexit
import os
import tempfile

_home = tempfile.TemporaryDirectory(prefix="rerankq-ir-datasets-")
atexit.register(_home.cleanup)
# ir_datasets reads this when it is imported, which is before any fixture.
os.environ["IR_DATASETS_HOME"] = _home.name
