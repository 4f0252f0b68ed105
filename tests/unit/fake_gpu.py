"""A GPU that has no numbers: torch computes types, shapes and devices of tensors only.

It takes the place of a GPU where there is none. As on a GPU, torch refuses operations on tensors of
several devices, or of types that do not fit. Copies and waits are checked here, and so is what the
kernels of flash-attn need.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

GPU = torch.device("cuda", 0)
#: Kernels read rows in pieces of this size.
ALIGNED_BYTES = 16


@contextmanager
def fake_gpu() -> Iterator[Observer]:
    """Let tensors be on a GPU, and check what happens to them; new ones are there by default."""
    observer = Observer()
    with pytest.MonkeyPatch.context() as patch, FakeTensorMode(), observer, _Bindings():
        patch.setattr(torch.cuda, "device", nullcontext)
        yield observer


def move(module: torch.nn.Module) -> None:
    """Move the parameters and buffers of a module to the GPU."""
    for each in module.modules():
        for name, parameter in each._parameters.items():
            if parameter is not None:
                each._parameters[name] = torch.nn.Parameter(_like(parameter), requires_grad=False)
        for name, buffer in each._buffers.items():
            if buffer is not None:
                each._buffers[name] = _like(buffer)


def _like(held: Tensor) -> Tensor:
    return torch.empty(held.shape, dtype=held.dtype, device=GPU)


class Observer(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records the operations by their names, and those for which the host waits."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations: list[str] = []
        self.waits: list[str] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        del types
        self.operations.append(function.name())
        given = [each for each in (*args, *(kwargs or {}).values()) if isinstance(each, Tensor)]
        if function.name() == "torch_attn::_varlen_attn":
            _check_attention(*args)
        made = function(*args, **(kwargs or {}))
        is_from_gpu = any(each.device == GPU for each in given)
        if is_from_gpu and isinstance(made, Tensor) and made.device != GPU:
            self.waits.append(function.name())
        return made


class _Bindings(TorchFunctionMode):
    """Takes the place of functions of torch that need the driver even for fake tensors."""

    def __init__(self) -> None:
        super().__init__()
        self._pinned: list[Tensor] = []

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        del types
        if function is Tensor.pin_memory:
            self._pinned.append(args[0])
            return args[0]
        if function is Tensor.to and torch.device in map(type, args):
            assert kwargs == {"non_blocking": True}, "a copy waits"
            assert any(args[0] is each for each in self._pinned), "a copy from other memory waits"
            return torch.ops.aten._to_copy(args[0], device=args[1])
        if function is Tensor.numpy:
            return np.zeros(args[0].shape, np.float32)
        if function is Tensor.__getitem__:
            return _item(*args)
        return function(*args, **(kwargs or {}))


def _item(tensor: Tensor, key: Any) -> Tensor:
    """Return `tensor[key]` for the kinds of keys that networks use."""
    keys = key if isinstance(key, tuple) else (key,)
    if Ellipsis in [each for each in keys if not isinstance(each, Tensor)]:
        missing = tensor.ndim + 1 - sum(each is not None for each in keys)
        place = keys.index(Ellipsis)
        keys = (*keys[:place], *[slice(None)] * missing, *keys[place + 1 :])
    dimension = 0
    for each in keys:
        if each is None:
            tensor = tensor.unsqueeze(dimension)
        elif isinstance(each, int):
            tensor, dimension = tensor.select(dimension, each), dimension - 1
        elif isinstance(each, slice):
            begin, end, step = each.indices(tensor.shape[dimension])
            assert step == 1
            tensor = tensor.narrow(dimension, begin, end - begin)
        else:
            assert len(keys) == 1
            tensor = torch.ops.aten.index(tensor, [each])
        dimension += 1
    return tensor


def _check_attention(
    q: Tensor, k: Tensor, v: Tensor, starts_q: Tensor, starts_k: Tensor, *lengths: Any
) -> None:
    """Fail where `mha_varlen_fwd` of torch 2.13 would, and where its reads would not be aligned."""
    assert all(isinstance(length, int) for length in lengths[:2])
    assert all(each.device == GPU for each in (q, k, v, starts_q, starts_k))
    for each in (q, k, v):
        assert each.dtype in (torch.float16, torch.bfloat16)
        assert each.dtype == q.dtype
        assert each.shape[1:] == q.shape[1:]
        assert each.shape[2] <= 256
        assert each.shape[2] % 8 == 0
        assert each.stride(2) == 1
        places = (each.stride(0), each.stride(1), each.storage_offset())
        assert all(place * each.itemsize % ALIGNED_BYTES == 0 for place in places)
    assert len(k) == len(v)
    for starts in (starts_q, starts_k):
        assert starts.dtype == torch.int32
        assert starts.is_contiguous()
    assert len(starts_q) == len(starts_k)
