"""The work of operations: floating point operations of products, and bytes that are read and written.

Owns what one call of an operation of PyTorch costs, told from shapes alone, so that it is the same for tensors without
data. Does not own how long that takes on a machine (`vitdsl.runtime.run.calibration`).
"""

from collections.abc import Sequence
from math import prod
from typing import Any, Literal, NamedTuple

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

Sort = Literal["product", "convolution", "dear", "plain", "view"]
PRODUCTS = {"mm", "addmm", "bmm", "baddbmm", "mv", "addmv"}
ATTENTION = "scaled_dot_product"
"""In the names of what attention is where it is one operation."""
DEAR = {
    "gelu", "_softmax", "_safe_softmax", "_log_softmax", "exp", "erf", "erfinv", "tanh", "sigmoid", "silu", "mish",
    "log", "pow", "sin", "cos", "native_layer_norm", "native_group_norm", "softplus", "elu", "sort", "topk", "cumsum",
    "gelu_backward", "_softmax_backward_data", "_log_softmax_backward_data", "native_layer_norm_backward",
    "native_group_norm_backward", "silu_backward", "mish_backward", "elu_backward", "softplus_backward",
}  # fmt: skip
"""Operations that compute more than they read, though they are no products."""


class Op(NamedTuple):
    """One call: floating point operations, a multiplication and an addition two, and bytes read and written.

    Attributes:
        sort: What its speed is like.
        exact: Whether it computes in float64.
    """

    sort: Sort
    flops: float
    bytes: float
    exact: bool = False

    def times(self, factor: float) -> "Op":
        """The call on so many times the images."""
        return Op(self.sort, self.flops * factor, self.bytes * factor, self.exact)


VIEW = Op("view", 0.0, 0.0)


class Work(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes every call while operations run, in `ops`; one that only views a tensor moves nothing."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.ops: list[Op] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and note its work."""
        results = func(*args, **(kwargs or {}))
        if _views(func._schema):
            self.ops.append(VIEW)
        else:
            given = _tensors((*args, *(kwargs or {}).values()))
            found = _tensors(results if isinstance(results, (tuple, list)) else (results,))
            if found:
                self.ops.append(_op(func._schema.name.partition("::")[2], args, given, found))
        return results


def one_product(ops: Sequence[Op], given: Sequence[Tensor], result: Tensor) -> Op:
    """Several calls as one that keeps nothing between them: attention, whose weights are never written."""
    return Op("product", sum(op.flops for op in ops), _bytes(given) + _bytes([result]))


def _op(name: str, args: Any, given: list[Tensor], found: list[Tensor]) -> Op:
    sort, flops = _flops(name, args, given, found[0])
    exact = found[0].dtype.is_floating_point and found[0].dtype.itemsize == 8
    return Op(sort, flops, _bytes(given) + _bytes(found), exact)


def _flops(name: str, args: Any, given: list[Tensor], result: Tensor) -> tuple[Sort, float]:
    if name in PRODUCTS:
        left, right = given[-2:]
        return "product", 2.0 * prod(result.shape) * left.shape[-1]
    if name == "convolution_backward":
        gradient, image, kernel = given[:3]
        outer = (image if args[7] is True else gradient).numel()
        gradients = sum(args[10][:2])  # by the image and by the kernel
        return "convolution", 2.0 * outer * kernel.numel() / kernel.shape[0] * gradients
    if "convolution" in name or name in ("conv2d", "conv1d", "conv3d"):
        image, kernel = given[:2]
        transposed = len(args) > 6 and args[6] is True
        outer = image.numel() if transposed else result.numel()
        return "convolution", 2.0 * outer * kernel.numel() / kernel.shape[0]
    if ATTENTION in name:
        query, key, value = given[:3]
        pairs = prod(query.shape[:-1]) * key.shape[-2]
        return "product", 2.0 * pairs * (query.shape[-1] + value.shape[-1])
    return ("dear" if name in DEAR else "plain"), 0.0


def _views(schema: Any) -> bool:
    """Whether an operation gives a tensor that is a part of what it was given, and writes nothing."""
    if schema.name == "aten::_unsafe_view":
        return True
    return any(one.alias_info is not None and not one.alias_info.is_write for one in schema.returns)


def _tensors(values: Any) -> list[Tensor]:
    found = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, (tuple, list)):
            found += _tensors(value)
    return found


def _bytes(tensors: Sequence[Tensor]) -> float:
    """Bytes of some tensors; what is repeated by a stride of 0 counts once."""
    return float(sum(_places(one) * one.element_size() for one in tensors))


def _places(tensor: Tensor) -> int:
    sizes = zip(tensor.shape, tensor.stride(), strict=True)
    return prod(size if stride else 1 for size, stride in sizes)
