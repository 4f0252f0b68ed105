"""Compressed files are read within a bound of memory, and outputs are compressed by their names."""

from __future__ import annotations

import bz2
import errno
import gzip
import io
import lzma
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from contract.errors import InvalidInput
from producer.files import outputs, reading
from producer.rescore.output_files import OutputFiles

LINES = "".join(f"q1 Q0 d{n} {n} {-n} tag{n * n}\n" for n in range(4_000)).encode()
#: A frame of zstd without content, with which files of pzstd begin.
SKIPPED = b"\x50\x2a\x4d\x18\x02\0\0\0ab"


def zstd_of_unknown_size(plain: bytes) -> bytes:
    packed = zstandard.ZstdCompressor(write_checksum=True).compressobj()
    return packed.compress(plain) + packed.flush()


COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": zstd_of_unknown_size,
}


def content(path: Path) -> bytes:
    return b"\n".join(block for _, block in reading.blocks(str(path))) + b"\n"


def refusal(path: Path) -> str:
    with pytest.raises(InvalidInput) as caught:
        content(path)
    return str(caught.value)


@pytest.mark.parametrize(
    "packed",
    [
        zstd_of_unknown_size(LINES),
        SKIPPED + zstandard.compress(LINES[:1000]) + SKIPPED + zstandard.compress(LINES[1000:]),
        zstandard.compress(b"") + zstandard.compress(LINES, 19) + zstandard.compress(b""),
        zstandard.compress(gzip.compress(LINES)),
        b"".join(zstandard.compress(each) for each in LINES.splitlines(keepends=True)),
    ],
    ids=["unknown size", "of pzstd", "with empty frames", "around gzip", "a frame for each line"],
)
def test_a_zstd_file_is_read_whatever_its_frames_are(tmp_path: Path, packed: bytes) -> None:
    (tmp_path / "run").write_bytes(packed)
    assert content(tmp_path / "run") == LINES


@pytest.mark.parametrize("kind", COMPRESSORS)
def test_a_file_that_is_cut_anywhere_is_refused(tmp_path: Path, kind: str) -> None:
    packed = COMPRESSORS[kind](LINES)
    for length in (20, len(packed) // 2, len(packed) - 5, len(packed) - 1):
        (tmp_path / "run").write_bytes(packed[:length])
        assert "run: the file cannot be read" in refusal(tmp_path / "run")


@pytest.mark.parametrize("kind", COMPRESSORS)
def test_the_line_after_which_a_file_is_damaged_is_named(tmp_path: Path, kind: str) -> None:
    good, damaged = COMPRESSORS[kind](LINES * 4), bytearray(COMPRESSORS[kind](LINES))
    damaged[4] ^= 0xFF
    (tmp_path / "run").write_bytes(good + bytes(damaged))
    line = int(refusal(tmp_path / "run").split(" after line ")[1].split(":")[0].replace(",", ""))
    assert 8_000 < line <= 16_000


def test_a_tiny_file_that_expands_without_end_does_not_fill_the_memory(tmp_path: Path) -> None:
    line = b"x" * 1023 + b"\n"
    (tmp_path / "run").write_bytes(zstandard.compress(line * 2**16))  # 64 MiB
    assert (tmp_path / "run").stat().st_size < 2**17
    tracemalloc.start()
    try:
        assert sum(block.count(b"\n") + 1 for _, block in reading.blocks(str(tmp_path / "run")))
        assert tracemalloc.get_traced_memory()[1] < 2**25
    finally:
        tracemalloc.stop()


def test_a_window_larger_than_the_bound_is_refused(tmp_path: Path) -> None:
    chosen = zstandard.ZstdCompressionParameters(window_log=28, enable_ldm=True)
    packed = zstandard.ZstdCompressor(compression_params=chosen).compressobj()
    (tmp_path / "run").write_bytes(packed.compress(LINES) + packed.flush())
    assert refusal(tmp_path / "run").endswith(
        "needs more than 128 MiB of memory; compress it again without --long"
    )


def unzstd(packed: bytes) -> bytes:
    return zstandard.ZstdDecompressor().stream_reader(io.BytesIO(packed)).read()


@pytest.mark.parametrize(
    ("suffix", "decompress"),
    [
        (".gz", gzip.decompress),
        (".bz2", bz2.decompress),
        (".xz", lzma.decompress),
        (".zst", unzstd),
        (".txt", bytes),
    ],
)
def test_an_output_is_compressed_as_its_name_ends_and_always_to_the_same_bytes(
    tmp_path: Path, suffix: str, decompress: Callable[[bytes], bytes]
) -> None:
    for number in (1, 2):
        (tmp_path / str(number)).mkdir()
        with outputs.atomic_file(f"{tmp_path}/{number}/run{suffix}") as file:
            for line in LINES.splitlines(keepends=True):
                file.write(line)
    first, second = (tmp_path / name / f"run{suffix}" for name in ("1", "2"))
    assert decompress(first.read_bytes()) == LINES
    assert first.read_bytes() == second.read_bytes()
    assert content(first) == LINES


def test_a_compressed_output_that_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    def fail_half_way() -> None:
        with outputs.atomic_file(str(tmp_path / "run.zst")) as file:
            file.write(LINES)
            raise OSError(errno.ENOSPC, "disk full")

    with pytest.raises(OSError, match="disk full"):
        fail_half_way()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "chosen"), [("run.gz", "parquet"), ("run.parquet.zst", None)])
def test_a_parquet_file_is_not_compressed_again(
    tmp_path: Path, name: str, chosen: str | None
) -> None:
    with pytest.raises(InvalidInput, match="Parquet files are compressed within"):
        OutputFiles(output=str(tmp_path / name), format=chosen).check([])
