"""The reduction that keeps a model's output as it is."""

from torch import Tensor

from vitdsl.runtime.graph.site import Site
from vitdsl.runtime.graph.tap import Reducer


def as_float(tensor: Tensor, *, site: Site) -> Tensor:
    """The model's output, `[batch, ...]`, in float32."""
    return tensor.float()


OUTPUT = Reducer(as_float)
