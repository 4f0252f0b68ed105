"""The figures of a simulation: what Redis and the producer used, and what limited the speed."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import redis

#: A core that is busy for this share of the time is the limit.
BUSY = 0.85
#: 10 Gbit/s, in bytes per second.
NETWORK = 10e9 / 8


@dataclass(frozen=True)
class Usage:
    """The CPU time, bytes and commands of Redis, and the CPU time of the producer."""

    redis_cpu_s: float
    producer_cpu_s: float
    #: That of its processes that have ended (`--processes`).
    senders_cpu_s: float
    bytes_in: float
    bytes_out: float
    commands: float

    @classmethod
    def now(cls, server: redis.Redis, producer: int) -> Usage:
        """Return what they have used until now."""
        info: Any = server.info()
        # The fields after the name: see proc(5).
        fields = Path(f"/proc/{producer}/stat").read_text().rpartition(")")[2].split()
        user, system, childrens_user, childrens_system = map(int, fields[11:15])
        tick_s = 1 / os.sysconf("SC_CLK_TCK")
        return cls(
            redis_cpu_s=info["used_cpu_user"] + info["used_cpu_sys"],
            producer_cpu_s=(user + system) * tick_s,
            senders_cpu_s=(childrens_user + childrens_system) * tick_s,
            bytes_in=info["total_net_input_bytes"],
            bytes_out=info["total_net_output_bytes"],
            commands=info["total_commands_processed"],
        )

    def since(self, earlier: Usage) -> Usage:
        """Return the difference."""
        before, now = asdict(earlier), asdict(self)
        return Usage(**{name: now[name] - before[name] for name in now})


@dataclass(frozen=True)
class Figures:
    """The speed and the cost of one re-scoring."""

    pairs: int
    jobs: int
    #: From the first job to the last result.
    pairs_per_s: float
    capacity_pairs_per_s: float
    #: The usage while the pairs were scored.
    usage: Usage
    #: For the whole command, which also reads and writes files.
    producer_cpu_s: float
    workers_cpu_s: float
    cores: int

    @property
    def scoring_s(self) -> float:
        """The time from the first job to the last result."""
        return self.pairs / self.pairs_per_s

    @property
    def redis_us(self) -> float:
        """CPU time of Redis for a pair, in microseconds."""
        return 1e6 * self.usage.redis_cpu_s / self.pairs

    @property
    def limit(self) -> str:
        """The part that limited the speed."""
        shares = {
            "the workers": self.pairs_per_s / self.capacity_pairs_per_s,
            "the core of Redis": self.usage.redis_cpu_s / self.scoring_s,
            "the core of the producer": self.usage.producer_cpu_s / self.scoring_s,
        }
        name = max(shares, key=lambda each: shares[each])
        if shares[name] >= BUSY:
            return name
        used = self.usage
        cpu_s = used.redis_cpu_s + used.producer_cpu_s + used.senders_cpu_s + self.workers_cpu_s
        if cpu_s >= BUSY * self.cores * self.scoring_s:
            return f"the {self.cores} cores of this machine, which also simulate the workers"
        return f"other programs, or waits; {name} was used most, to {shares[name]:.0%}"

    def table(self) -> str:
        """Return the figures as a Markdown table."""
        used = self.usage
        rows = (
            ("pairs", f"{self.pairs:,} in {self.jobs:,} jobs"),
            ("speed", f"{self.pairs_per_s:,.0f} pairs/s"),
            ("what limits it", self.limit),
            ("speed of the workers together", f"{self.capacity_pairs_per_s:,.0f} pairs/s"),
            ("CPU time of Redis", self._cpu(used.redis_cpu_s)),
            ("CPU time of the producer", self._cpu(used.producer_cpu_s)),
            ("CPU time of its other processes", self._cpu(used.senders_cpu_s)),
            (
                "all of the producer, with reading and writing files",
                f"{1e6 * self.producer_cpu_s / self.pairs:.1f} us a pair",
            ),
            ("commands of Redis", f"{used.commands / self.jobs:,.0f} a job"),
            (
                "its network",
                f"{used.bytes_in / self.pairs:,.0f} bytes a pair in,"
                f" {used.bytes_out / self.pairs:,.0f} out",
            ),
            ("one core of Redis is enough for", f"{1e6 / self.redis_us:,.0f} pairs/s"),
            (
                "10 Gbit/s at Redis are enough for",
                f"{NETWORK * self.pairs / max(used.bytes_in, used.bytes_out):,.0f} pairs/s",
            ),
        )
        return "\n".join(["| | |", "| --- | ---: |", *(f"| {a} | {b} |" for a, b in rows)])

    def _cpu(self, seconds: float) -> str:
        us, share = 1e6 * seconds / self.pairs, seconds / self.scoring_s
        return f"{us:.1f} us a pair, {share:.0%} of a core"
