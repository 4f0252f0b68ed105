"""The former place of `worker.inprocess`, which goes on working."""

from worker.inprocess.pipeline import *  # noqa: F403
