"""Stub models for tests of services, which take time and memory without arithmetic."""

from __future__ import annotations

MIB = 2**20

#: A model that is as fast as possible.
STUB = "stub"
#: Another one with different scores.
OTHER = "stub:scale=2"
#: A model that cannot be loaded.
ABSENT = "stub:absent=1"

#: The number of pairs that the large model scores in a second.
PAIRS_A_SECOND = 35
#: A pair of 512 tokens takes 32 MiB in the large model. It takes 8 MiB in the small one, which is
#: as fast as possible. A batch has four pairs.
BATCH_TOKENS = 2_048
LARGE = f"stub:pairs_per_s={PAIRS_A_SECOND};bytes_per_token={32 * MIB // 512}"
SMALL = f"stub:scale=2;bytes_per_token={8 * MIB // 512}"
#: A model that is as slow as the large one and takes no memory.
SLOW = f"stub:pairs_per_s={PAIRS_A_SECOND}"
