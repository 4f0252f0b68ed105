"""Run a module whose files may not grow beyond a size, as on a full disk.

python -m tests.limited_files BYTES MODULE [ARGUMENT ...]
"""

from __future__ import annotations

import resource
import runpy
import sys

if __name__ == "__main__":
    size_bytes, module, *sys.argv[1:] = sys.argv[1:]
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(size_bytes), most))
    runpy.run_module(module, run_name="__main__", alter_sys=True)
