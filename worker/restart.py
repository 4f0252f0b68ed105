"""`python -m worker.restart COMMAND`: see `worker.runtime.restart`."""

import sys

from worker.runtime.restart import main

if __name__ == "__main__":
    sys.exit(main())
