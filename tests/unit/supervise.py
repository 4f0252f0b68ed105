"""`python -m tests.unit.supervise DELAYS COMMAND`: run `worker.restart` with other delays."""

from __future__ import annotations

import sys

from worker.runtime.restart import RestartSupervisor

if __name__ == "__main__":
    delays_s = map(float, sys.argv[1].split(","))
    sys.exit(RestartSupervisor(sys.argv[2:], delays_s).run())
