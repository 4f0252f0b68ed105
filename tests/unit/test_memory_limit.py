"""Limits on memory, and kills for lack of it, are read from Linux, on a host and in a container."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from worker.engine.model_paths import bundled_path
from worker.runtime import memory_limit

UNLIMITED_V1 = "9223372036854771712"
VMSTAT = {"proc/vmstat": "nr_free_pages 1\noom_kill 7\n"}


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_version_2_in_a_container(tmp_path: Path) -> None:
    made = {
        "proc/self/cgroup": "0::/\n",
        "sys/fs/cgroup/memory.max": "314572800\n",
        "sys/fs/cgroup/memory.events": "low 0\nmax 9\noom 3\noom_kill 2\noom_group_kill 0\n",
    }
    root = tree(tmp_path, made | VMSTAT)

    found = memory_limit.limit(root)

    assert found is not None
    assert str(found) == f"300 MB ({root}/sys/fs/cgroup/memory.max)"
    assert memory_limit.oom_kills(root) == 2


def test_the_lowest_limit_of_the_groups_above_holds(tmp_path: Path) -> None:
    made = {
        "proc/self/cgroup": "0::/pod/worker\n",
        "sys/fs/cgroup/pod/worker/memory.max": "max\n",
        "sys/fs/cgroup/pod/memory.max": "1048576\n",
        "sys/fs/cgroup/pod/worker/memory.events": "oom_kill 1\n",
        "sys/fs/cgroup/pod/memory.events": "oom_kill 5\n",
    }
    root = tree(tmp_path, made)

    found = memory_limit.limit(root)

    assert found is not None
    assert found.source == root / "sys/fs/cgroup/pod/memory.max"
    assert memory_limit.oom_kills(root) == 1


def test_version_1_in_a_container_whose_own_path_is_the_hosts(tmp_path: Path) -> None:
    made = {
        "proc/self/cgroup": "5:cpu,cpuacct:/docker/1f\n4:memory:/docker/1f\n1:name=systemd:/\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "104857600\n",
        "sys/fs/cgroup/memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 4\n",
    }
    root = tree(tmp_path, made)

    found = memory_limit.limit(root)

    assert found is not None
    assert found.size_bytes == 104_857_600
    assert memory_limit.oom_kills(root) == 4


@pytest.mark.parametrize("written", ["max", UNLIMITED_V1])
def test_no_limit_is_none(tmp_path: Path, written: str) -> None:
    made = {
        "proc/self/cgroup": "4:memory:/\n0::/\n",
        "sys/fs/cgroup/memory.max": written,
        "sys/fs/cgroup/memory/memory.limit_in_bytes": written,
    }

    assert memory_limit.limit(tree(tmp_path, made)) is None


def test_without_a_group_the_machine_counts_the_kills(tmp_path: Path) -> None:
    root = tree(tmp_path, VMSTAT | {"proc/self/cgroup": "0::/\n"})

    assert memory_limit.limit(root) is None
    assert memory_limit.oom_kills(root) == 7


def test_where_there_is_no_proc_nothing_is_known(tmp_path: Path) -> None:
    assert memory_limit.limit(tmp_path) is None
    assert memory_limit.oom_kills(tmp_path) is None


def test_weights_are_counted_in_float32() -> None:
    # The file has a header, and float16 numbers
    size = (bundled_path() / "model.safetensors").stat().st_size
    assert 2 * (size - 30_000) < memory_limit.weight_bytes(bundled_path()) < 2 * size


def test_a_folder_without_readable_weights_counts_as_its_files(tmp_path: Path) -> None:
    assert memory_limit.weight_bytes(tmp_path) == 0
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 100)

    assert memory_limit.weight_bytes(tmp_path) == 100


@pytest.mark.parametrize(
    ("layers", "weights_mb", "children", "measured_mb"),
    [(2, 17, 1, 640), (2, 17, 2, 793), (6, 91, 2, 1024), (12, 133, 1, 902), (12, 133, 2, 1200)],
)
def test_the_need_is_what_was_measured_where_each_child_loads_its_models(
    layers: int, weights_mb: int, children: int, measured_mb: int
) -> None:
    need_mb = memory_limit.need_bytes(weights_mb * memory_limit.MB, children) / memory_limit.MB

    assert need_mb == pytest.approx(measured_mb, rel=0.1), layers


@pytest.mark.parametrize(
    ("layers", "weights_mb", "children", "measured_mb"),
    [(2, 17, 1, 597), (2, 17, 3, 597), (6, 91, 1, 884), (6, 91, 2, 910), (12, 133, 1, 999)],
)
def test_the_need_of_shared_models_is_that_while_they_are_loaded(
    layers: int, weights_mb: int, children: int, measured_mb: int
) -> None:
    need = memory_limit.need_bytes_of_shared_models(weights_mb * memory_limit.MB, children)

    assert need / 1e6 == pytest.approx(measured_mb, rel=0.1), layers


def test_many_children_need_more_than_loading() -> None:
    need = memory_limit.need_bytes_of_shared_models(17 * memory_limit.MB, 8)

    assert need / 1e6 == pytest.approx(607, rel=0.15)


def test_a_limit_of_address_space_is_named_where_no_group_has_a_limit(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_AS)
    if before[0] != resource.RLIM_INFINITY:
        pytest.skip("the address space of these tests is limited")
    assert memory_limit.describe_limit(tmp_path) == "No memory limit is set"
    # Given a limit that is larger than what these tests need
    resource.setrlimit(resource.RLIMIT_AS, (2**20 * memory_limit.MB, before[1]))
    try:
        said = memory_limit.describe_limit(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    assert said == "The limit of address space (ulimit -v) is 1,048,576 MB"
