"""A device that is not the CPU, for machines without one: its tensors hold what a CPU computes, and say that they lie elsewhere.

As with a GPU, an operation on tensors of both places raises, but for copies from one to the other and for CPU scalars in elementwise
operations; `numpy()` raises too. torch must take the place for a device that autograd knows and that needs no driver, which is "meta".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing

ELSEWHERE = torch.device("meta")
COPIES = {torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default}
Operation = torch._ops.OpOverload
NONE: Mapping[str, Any] = {}


class Distant(Tensor):
    """A tensor that says it lies elsewhere.

    Attributes:
        held: its numbers, on the CPU.
    """

    held: Tensor

    @staticmethod
    def __new__(cls: type[Distant], held: Tensor) -> Distant:
        about = {"strides": held.stride(), "storage_offset": held.storage_offset(), "dtype": held.dtype, "device": ELSEWHERE}
        made: Distant = Tensor._make_wrapper_subclass(cls, held.shape, **about)
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, operation: Operation, types: object, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> object:
        return compute(operation, args, kwargs or NONE)


class Elsewhere(ExitStack):
    """While it is entered, tensors can be moved to `ELSEWHERE` and made there."""

    def __enter__(self) -> Elsewhere:
        super().__enter__()
        self.enter_context(_Dispatching())
        self.enter_context(_Calling())
        return self


class _Dispatching(TorchDispatchMode):
    def __torch_dispatch__(  # type: ignore[override]
        self, operation: Operation, types: object, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> object:
        return compute(operation, args, kwargs or NONE)


class _Calling(TorchFunctionMode):
    """What torch decides before any operation is dispatched."""

    def __torch_function__(  # type: ignore[override]
        self, function: Callable[..., object], types: object, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> object:
        kwargs = kwargs or NONE
        if function == Tensor.is_meta.__get__:
            return False  # there are numbers to be copied
        if function is Tensor.tolist:
            return args[0].cpu().tolist()
        if function is torch.tensor and _is_elsewhere(kwargs.get("device")):
            return torch.tensor(*args, **{**kwargs, "device": "cpu"}).to(ELSEWHERE)
        return function(*args, **kwargs)


def compute(operation: Operation, args: Sequence[Any], kwargs: Mapping[str, Any]) -> object:
    """Compute on the CPU; what comes of tensors elsewhere, or is asked for there, lies elsewhere."""
    tensors = list(_tensors([*args, *kwargs.values()]))
    distant = any(isinstance(tensor, Distant) for tensor in tensors)
    if distant and operation not in COPIES:
        near = [tuple(tensor.shape) for tensor in tensors if not isinstance(tensor, Distant)]
        if any(near) or (near and torch.Tag.pointwise not in operation.tags):
            raise RuntimeError(f"{operation} has tensors of the shapes {near} on the CPU and others elsewhere.")
    wanted = kwargs.get("device")
    options = {**kwargs, "device": torch.device("cpu")} if wanted is not None else kwargs
    found = operation(*_mapped(args, _held), **{name: _mapped(value, _held) for name, value in options.items()})
    if not (distant if wanted is None else _is_elsewhere(wanted)):
        return found
    made = _mapped(found, Distant)
    return return_and_correct_aliasing(operation, args, kwargs, made) if distant else made


def _tensors(values: Sequence[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


def _mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:  # noqa: ANN401 - whatever operations take and give
    if isinstance(value, Tensor):
        return change(value)
    return type(value)(_mapped(part, change) for part in value) if isinstance(value, list | tuple) else value


def _held(tensor: Tensor) -> Tensor:
    return tensor.held if isinstance(tensor, Distant) else tensor


def _is_elsewhere(device: object) -> bool:
    return device is not None and torch.device(device).type == ELSEWHERE.type  # type: ignore[call-overload]
