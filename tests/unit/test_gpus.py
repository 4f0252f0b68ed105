"""Children share the GPUs of a machine, and errors that end the use of a GPU are recognized."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch

from contract.errors import ModelUnavailable, OutOfMemory, RerankError, ScoringError
from worker.engine import load, loader
from worker.engine.cuda_errors import GpuFailed, ends_the_gpu
from worker.engine.devices import assigned
from worker.runtime import gpus, restart
from worker.runtime.exit_reason import ExitReason, ModelLoading

# Which GPU


def test_children_take_the_gpus_in_turn() -> None:
    assert [assigned("cuda", place, 3) for place in range(4)] == [
        "cuda:0",
        "cuda:1",
        "cuda:2",
        "cuda:0",
    ]


@pytest.mark.parametrize("number", [1, 2, 3, 4, 8])
def test_by_default_each_gpu_has_as_many_children_as_any_other(number: int) -> None:
    children = gpus.children("cuda", number, cores=64)
    shares = Counter(assigned("cuda", place, number) for place in range(children))
    assert set(shares.values()) == {gpus.CHILDREN_PER_GPU}
    assert len(shares) == number


@pytest.mark.parametrize("device", ["cpu", "cuda:1", "mps"])
def test_a_device_that_was_named_is_that_of_all_children(device: str) -> None:
    assert {assigned(device, place, 4) for place in range(5)} == {device}


def test_without_a_gpu_torch_says_so() -> None:
    assert assigned("cuda", 3, 0) == "cuda"


@pytest.mark.skipif(torch.cuda.is_available(), reason="requires a machine without a GPU")
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_a_gpu_that_is_not_there_is_named_with_the_ways_out(device: str) -> None:
    with pytest.raises(ModelUnavailable) as caught:
        load("bundled", device=device)
    assert str(caught.value).startswith(
        f"model 'bundled' cannot be used: the device is {device}, and torch"
    )
    assert "can use 0 GPUs. Set RERANKQ_DEVICE=cpu" in str(caught.value)


# How many


@pytest.mark.parametrize(
    ("listed", "number"),
    [
        ("0", 1),
        ("0,1", 2),
        ("2, 5,7", 3),
        ("GPU-8932f937,GPU-76a1", 2),
        ("MIG-3c9e/1/0", 1),
        ("0,-1,1", 1),
        ("", 1),
        ("-1", 1),
    ],
)
def test_gpus_that_are_listed_are_counted_as_cuda_does(listed: str, number: int) -> None:
    assert gpus.count({gpus.VISIBLE: listed}) == number


def test_gpus_that_the_driver_describes_are_counted(tmp_path: Path) -> None:
    for address in ("0000:19:00.0", "0000:3b:00.0"):
        (tmp_path / "proc/driver/nvidia/gpus" / address).mkdir(parents=True)
    assert gpus.count({}, tmp_path) == 2


def test_gpus_are_counted_by_their_devices_where_the_driver_describes_none(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    for name in ("nvidia0", "nvidia1", "nvidia2", "nvidiactl", "nvidia-uvm"):
        (tmp_path / "dev" / name).touch()
    assert gpus.count({}, tmp_path) == 3


def test_where_nothing_is_known_there_is_one(tmp_path: Path) -> None:
    assert gpus.count({}, tmp_path) == 1


@pytest.mark.parametrize(
    ("device", "number", "cores", "children"),
    [
        ("cuda", 1, 16, 2),
        ("cuda", 4, 64, 8),
        ("cuda", 4, 6, 6),
        ("cuda", 4, 1, 4),
        ("cuda:2", 4, 64, 2),
        ("cuda:0", 1, 1, 1),
        ("mps", 1, 8, 1),
    ],
)
def test_each_gpu_has_two_children_if_there_are_cores_for_them(
    device: str, number: int, cores: int, children: int
) -> None:
    assert gpus.children(device, number, cores) == children


# Errors


WITHOUT_KERNELS = "CUDA error: no kernel image is available for execution on the device"


class AcceleratorError(RuntimeError):
    """An error that has a message like those of CUDA."""


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: device-side assert triggered\nCUDA kernel errors might be async"),
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("CUDA error: uncorrectable ECC error encountered"),
        RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
        AcceleratorError("CUDA error: unspecified launch failure"),
    ],
)
def test_an_error_that_ends_the_use_of_a_gpu_is_recognized(error: Exception) -> None:
    assert ends_the_gpu(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("FlashAttention only supports Ampere GPUs or newer."),
        ValueError("too many values to unpack"),
        MemoryError(),
        KeyboardInterrupt("CUDA error: a signal"),
        AcceleratorError(WITHOUT_KERNELS),
    ],
)
def test_another_error_is_not(error: BaseException) -> None:
    assert not ends_the_gpu(error)


@pytest.mark.parametrize(
    ("error", "raised", "message"),
    [
        (
            AcceleratorError(WITHOUT_KERNELS),
            ModelUnavailable,
            "was built without support for this GPU. Install a build of torch that supports it",
        ),
        (AcceleratorError("CUDA error: an illegal memory access"), GpuFailed, "illegal memory"),
        (AcceleratorError("CUDA error: out of memory"), OutOfMemory, "out of memory"),
    ],
)
def test_an_error_of_a_gpu_while_a_model_loads_is_not_an_error_of_the_model(
    error: Exception, raised: type[Exception], message: str
) -> None:
    with pytest.raises(raised, match=message), loader._errors_of_the_model("a model", ()):
        raise error


def test_a_stub_can_fail_as_a_gpu_does() -> None:
    scorer = load("stub:poison_after=3")
    assert len(scorer.score([("a", "b"), ("a", "c")])) == 2
    for _ in range(2):  # and from then on
        with pytest.raises(GpuFailed, match="device-side assert") as failed:
            scorer.score([("a", "d"), ("a", "e")])
    assert isinstance(failed.value, ScoringError)
    assert failed.value.retryable


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (GpuFailed("the GPU failed"), restart.EXIT_GPU_FAILED),
        (OutOfMemory("no memory"), restart.EXIT_NO_MEMORY),
        (ScoringError("another error"), restart.EXIT_NO_MODEL),
    ],
)
def test_a_gpu_that_fails_at_the_start_has_its_own_exit_code(error: RerankError, code: int) -> None:
    reason = ExitReason()
    reason.loading_failed(error, ModelLoading(["stub"], 1, shared=False))
    assert reason._verdict[0] == code


def test_lack_of_the_memory_of_a_gpu_is_told_with_the_way_out() -> None:
    reason = ExitReason()
    error = OutOfMemory("not enough memory to load model 'a': CUDA out of memory. Tried to ...")
    reason.loading_failed(error, ModelLoading(["stub"], 2, shared=False))
    said = reason._verdict[1:].rstrip(b"\0").decode()
    assert "Start fewer children (--concurrency" in said
    assert "RERANKQ_DEVICE to another GPU" in said
    assert "WORKER_MEMORY" not in said
