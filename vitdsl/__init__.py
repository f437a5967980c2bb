"""vitdsl: a declarative experiment language for asking how vision models see.

The public names load on first use, so that ``import vitdsl`` and ``vitdsl --help`` stay fast and torch-free.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from vitdsl.dsl.load import load as load
    from vitdsl.dsl.study import Ablation as Ablation
    from vitdsl.dsl.study import Claim as Claim
    from vitdsl.dsl.study import Data as Data
    from vitdsl.dsl.study import Layer as Layer
    from vitdsl.dsl.study import Metric as Metric
    from vitdsl.dsl.study import Model as Model
    from vitdsl.dsl.study import Quantity as Quantity
    from vitdsl.dsl.study import Study as Study
    from vitdsl.dsl.study import Train as Train
else:
    _HOMES = {
        "load": "vitdsl.dsl.load",
        "Ablation": "vitdsl.dsl.study",
        "Claim": "vitdsl.dsl.study",
        "Data": "vitdsl.dsl.study",
        "Layer": "vitdsl.dsl.study",
        "Metric": "vitdsl.dsl.study",
        "Model": "vitdsl.dsl.study",
        "Quantity": "vitdsl.dsl.study",
        "Study": "vitdsl.dsl.study",
        "Train": "vitdsl.dsl.study",
    }

    def __getattr__(name: str) -> Any:
        from importlib import import_module

        if name not in _HOMES:
            raise AttributeError(f"module 'vitdsl' has no attribute {name!r}")
        return getattr(import_module(_HOMES[name]), name)
