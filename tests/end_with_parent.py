"""Run a command that the kernel kills when the process that started it ends for whatever reason.

Run as a script: the process becomes the command. On systems other than Linux, nothing kills it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

#: The option of `prctl` for the signal that this process gets when its parent ends.
PR_SET_PDEATHSIG = 1


def main(parent: int, command: list[str]) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            sys.exit("the parent has already ended")
    os.execvp(command[0], command)  # noqa: S606


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
