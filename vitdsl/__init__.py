"""vitdsl: a declarative experiment language for asking how vision models see.

    import vitdsl
    run = vitdsl.run("specs/skip_ablation.yaml")
    run.groups["accuracy/vit"]["drop"]

The public names load on first use, so that ``import vitdsl`` and ``vitdsl --help`` stay fast and torch-free.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from vitdsl.api import check as check
    from vitdsl.api import compile as compile
    from vitdsl.api import features as features
    from vitdsl.api import run as run
    from vitdsl.dsl.diagnostics import EnvironmentProblem as EnvironmentProblem
    from vitdsl.dsl.diagnostics import StudyError as StudyError
    from vitdsl.dsl.diagnostics import VitdslError as VitdslError
    from vitdsl.dsl.load import load as load
    from vitdsl.dsl.study import Ablation as Ablation
    from vitdsl.dsl.study import Augment as Augment
    from vitdsl.dsl.study import Claim as Claim
    from vitdsl.dsl.study import Data as Data
    from vitdsl.dsl.study import Layer as Layer
    from vitdsl.dsl.study import Metric as Metric
    from vitdsl.dsl.study import Model as Model
    from vitdsl.dsl.study import Quantity as Quantity
    from vitdsl.dsl.study import Range as Range
    from vitdsl.dsl.study import Study as Study
    from vitdsl.dsl.study import Train as Train
    from vitdsl.dsl.study import WeightsFile as WeightsFile
    from vitdsl.dsl.study import WeightsHub as WeightsHub
    from vitdsl.reports.render import write_report as write_report
    from vitdsl.runtime.results.folder import Run as Run
    from vitdsl.runtime.results.folder import open_run as open_run
else:
    _HOMES = {
        "vitdsl.api": ("check", "compile", "features", "run"),
        "vitdsl.dsl.diagnostics": ("EnvironmentProblem", "StudyError", "VitdslError"),
        "vitdsl.dsl.load": ("load",),
        "vitdsl.dsl.study": (
            "Ablation", "Augment", "Claim", "Data", "Layer", "Metric", "Model", "Quantity", "Range", "Study",
            "Train", "WeightsFile", "WeightsHub",
        ),
        "vitdsl.reports.render": ("write_report",),
        "vitdsl.runtime.results.folder": ("Run", "open_run"),
    }  # fmt: skip
    _HOME = {name: home for home, names in _HOMES.items() for name in names}
    __all__ = ["__version__", *_HOME]

    def __getattr__(name: str) -> Any:
        from importlib import import_module

        if name not in _HOME:
            raise AttributeError(f"module 'vitdsl' has no attribute {name!r}")
        return getattr(import_module(_HOME[name]), name)

    def __dir__() -> list[str]:
        return sorted(__all__)
