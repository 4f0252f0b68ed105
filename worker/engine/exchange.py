"""Write objects of the engine to a file, from which another process reads them.

A line of JSON has the structure, and the arrays follow in numpy's format. The objects can only be
of the classes of a few packages, and none of their code runs while they are read, except
`__setstate__`. A pickle could run anything.
"""

from __future__ import annotations

import importlib
import json
from collections import OrderedDict
from collections.abc import Callable
from functools import partial, reduce
from types import BuiltinFunctionType, FunctionType
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import Parameter

#: The packages whose classes and functions a file can name.
PACKAGES = ("worker.engine.", "torch.", "torch:", "sentence_transformers.")

Array = npt.NDArray[Any]


class NotExchangeable(Exception):
    """An object contains one that cannot be written to a file."""


def write(made: object, file: IO[bytes]) -> None:
    """Write an object to a file that `read` reads. Raises `NotExchangeable`."""
    arrays: list[Array] = []
    file.write(json.dumps(_encode(made, arrays)).encode() + b"\n")
    for array in arrays:
        np.save(file, array, allow_pickle=False)


def require_exchangeable(made: object) -> None:
    """Raise `NotExchangeable` unless `write` can write the object."""
    _encode(made, [])


def read(file: IO[bytes]) -> Any:
    """Return an object that is equal to the one that was written.

    Call it with one thread of torch if a fork may follow.
    """
    structure = json.loads(file.readline())
    return _decode(structure, lambda: np.load(file, allow_pickle=False))


def _encode(made: Any, arrays: list[Array]) -> Any:
    """Return what JSON can hold: scalars as they are, and all else as a dict with its kind.

    Appends to `arrays` those of the object, in the order in which `_decode` needs them.
    """

    def each(items: Any) -> list[Any]:
        return [_encode(item, arrays) for item in items]

    kind = type(made)
    if made is None or kind in (bool, int, float, str):
        return made
    if kind in (list, tuple, set):
        return {kind.__name__: each(made)}
    if kind in (dict, OrderedDict):
        return {kind.__name__: [each(item) for item in made.items()]}
    if kind is bytes:
        return {"bytes": made.hex()}
    if kind is partial:
        return {"partial": each([made.func, made.args, made.keywords])}
    if kind is torch.device:
        return {"device": str(made)}
    if kind is Tokenizer:
        return {"tokenizer": made.to_str()}
    if kind is np.ndarray:
        arrays.append(made)
        return {"array": None}
    if kind in (Tensor, Parameter):
        arrays.append(_array_of(made))
        return {kind.__name__.lower(): None}
    if isinstance(made, (type, FunctionType, BuiltinFunctionType)):
        return {"named": _name(made)}
    return {"object": [_name(kind), _encode(made.__getstate__(), arrays)]}


def _array_of(tensor: Tensor) -> Array:
    try:
        return tensor.detach().contiguous().numpy()
    except (TypeError, RuntimeError) as error:  # bfloat16, packed, or on a GPU
        raise NotExchangeable(str(error)) from error


def _name(made: Any) -> str:
    # The qualified name of a built-in function of torch contains a hidden class.
    qualified = made.__name__ if isinstance(made, BuiltinFunctionType) else made.__qualname__
    name = f"{made.__module__}:{qualified}"
    if not name.startswith(PACKAGES) or "<" in name:
        raise NotExchangeable(f"{name} cannot be written to a file")
    return name


def _decode(structure: Any, next_array: Callable[[], Array]) -> Any:
    if not isinstance(structure, dict):
        return structure
    ((kind, value),) = structure.items()

    def each(items: Any) -> list[Any]:
        return [_decode(item, next_array) for item in items]

    match kind:
        case "list":
            return each(value)
        case "tuple":
            return tuple(each(value))
        case "set":
            return set(each(value))
        case "dict":
            return dict(each(item) for item in value)
        case "OrderedDict":
            return OrderedDict(each(item) for item in value)
        case "bytes":
            return bytes.fromhex(value)
        case "partial":
            function, arguments, keywords = each(value)
            return partial(function, *arguments, **keywords)
        case "device":
            return torch.device(value)
        case "tokenizer":
            return Tokenizer.from_str(value)
        case "array":
            return next_array()
        case "tensor":
            return _tensor(next_array())
        case "parameter":
            return Parameter(_tensor(next_array()), requires_grad=False)
        case "named":
            return _named(value)
        case "object":
            name, state = value
            return _object(_named(name), _decode(state, next_array))
    raise ValueError(f"{kind!r} is no kind of object")


def _tensor(array: Array) -> Tensor:
    # A copy is aligned as torch aligns its tensors. Libraries may choose kernels by the alignment.
    return torch.from_numpy(array).clone()


def _named(name: str) -> Any:
    if not name.startswith(PACKAGES):
        raise ValueError(f"{name} is not of a package that a file can name")
    module, _, qualified = name.partition(":")
    return reduce(getattr, qualified.split("."), importlib.import_module(module))


def _object(kind: type, state: Any) -> Any:
    made: Any = object.__new__(kind)
    if hasattr(made, "__setstate__"):
        made.__setstate__(state)
    else:
        vars(made).update(state)
    return made
