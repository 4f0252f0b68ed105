"""The former place of `worker.inprocess`, which goes on working."""

from worker.inprocess.reranker import *  # noqa: F403
