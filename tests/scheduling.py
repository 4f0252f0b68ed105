"""Share the tests out among several processes: `pytest -n 5`.

Each process has its own server, and starts the services that its tests ask for.
"""

from __future__ import annotations

from typing import Any

from xdist.scheduler import LoadScopeScheduling

from tests.groups import group


class GroupScheduling(LoadScopeScheduling):  # type: ignore[misc]
    """Hands out one group after the other, in the order in which they were collected."""

    def __init__(self, config: Any, log: Any) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False

    def _split_scope(self, nodeid: str) -> str:
        return group(nodeid)
