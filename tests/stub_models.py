"""Stub models for tests of services, which take time and memory without arithmetic."""

from __future__ import annotations

MIB = 2**20

#: A model that is as quick as can be.
STUB = "stub"
#: Another one, with other scores.
OTHER = "stub:scale=2"
#: One that cannot be loaded.
ABSENT = "stub:absent=1"

#: The large model scores so many pairs in a second.
PAIRS_A_SECOND = 35
#: A pair of 512 tokens takes 32 MiB in the large model, and 8 MiB in the small one, which is as
#: quick as can be. Four pairs are a batch.
BATCH_TOKENS = 2_048
LARGE = f"stub:pairs_per_s={PAIRS_A_SECOND};bytes_per_token={32 * MIB // 512}"
SMALL = f"stub:scale=2;bytes_per_token={8 * MIB // 512}"
#: One that is as slow as the large one, and takes no memory.
SLOW = f"stub:pairs_per_s={PAIRS_A_SECOND}"
