"""Decompress Zstandard frames a little at a time, so that memory is bounded for any file."""

from __future__ import annotations

import zstandard

#: Four bytes of input can expand to 128 KiB, so this limits the output of one step to 32 MiB.
_STEP_BYTES = 2**10
#: The largest window that `zstd` uses without `--long`; it is held in memory.
MAX_WINDOW_BYTES = 2**27


class ZstdMember:
    """One frame, with the interface of the decompressors of the standard library."""

    def __init__(self) -> None:
        context = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES)
        self._frame = context.decompressobj()
        self._packed = memoryview(b"")
        self._plain = memoryview(b"")

    @property
    def eof(self) -> bool:
        """Return whether the frame is complete and all of its content has been returned."""
        return self._frame.eof and not self._plain

    @property
    def unused_data(self) -> bytes:
        """Return the data after the end of the frame."""
        return self._frame.unused_data + bytes(self._packed)

    @property
    def needs_input(self) -> bool:
        """Return whether `decompress` must be called with more data."""
        return not self._plain and not self._packed

    def decompress(self, packed: bytes, size: int) -> bytes:
        """Return at most `size` bytes of content; b"" if more data is needed first."""
        if packed:
            self._packed = memoryview(packed)
        while not self._plain and self._packed and not self._frame.eof:
            step, self._packed = self._packed[:_STEP_BYTES], self._packed[_STEP_BYTES:]
            self._plain = memoryview(self._frame.decompress(step))
        part, self._plain = self._plain[:size], self._plain[size:]
        return bytes(part)
