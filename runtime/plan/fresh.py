"""Fresh parameters: those that a checkpoint leaves at random, and what reads what comes behind them.

Owns which parameters `weights` will leave, as far as it is known before they are read, and what is wrong with measuring
answers that depend on fresh parameters. Does not own how a checkpoint is laid over a model (`models/checkpoints`).
A model with `weights: random` has none: it is asked for as it is, such as a control. Nor has one that is trained.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence

from torch import fx, nn

from vitdsl.dsl.diagnostics import Diagnostic
from vitdsl.dsl.loaded import Loaded
from vitdsl.dsl.study import WeightsFile
from vitdsl.dsl.text import ticked
from vitdsl.runtime.graph.sites import Sites
from vitdsl.runtime.plan.plan import Group, PlannedModel

MOST = 3
"""Names that a message shows."""


def expected(planned: PlannedModel) -> tuple[str, ...]:
    """The parameters that will be fresh: a head of other classes than the pretrained one's, or a wanted one."""
    module, entry = planned.sites.model, planned.entry
    cfg = getattr(module, "pretrained_cfg", None) or {}
    asked = isinstance(entry.weights, WeightsFile) and entry.weights.head == "fresh"
    other = entry.weights == "pretrained" and cfg.get("num_classes") not in (
        None,
        getattr(module, "num_classes", None),
    )
    if not planned.made or not (asked or other):
        return ()
    heads = cfg.get("classifier") or ()
    return _parameters_of(module, (heads,) if isinstance(heads, str) else heads)


def problems(
    loaded: Loaded,
    groups: Sequence[Group],
    models: Mapping[str, PlannedModel],
    fresh: Mapping[str, Collection[str]],
) -> list[Diagnostic]:
    """Metrics that read answers which depend on fresh parameters (VD304).

    Args:
        loaded: The study.
        groups: What will be measured.
        models: The models by name.
        fresh: Names of the fresh parameters of each model.
    """
    found = []
    for group, name, behind in _reading(groups, models, fresh):
        planned, names = models[name], fresh[name]
        if not _answers(group, planned, behind):
            continue
        options = ("models", planned.base, "options", "num_classes")
        weights = ("models", planned.base, "weights")
        found.append(
            loaded.problem(
                "VD304",
                options if loaded.source.exists(options) else weights,
                f"`{group.kind.name}` reads the answers of `{name}`, and these are random: its weights do not fill "
                f"{_some(names)}",
                label="gives it a fresh head" if loaded.source.exists(options) else "do not fill it",
                help=(
                    "leave `num_classes` as the weights have it, and say which of its classes images show: `labels:`",
                    "or train the head on images of these classes: `train: {data: ...}` beside `weights`",
                    "or measure features: `kind: linear_probe` with layers of this model",
                    "or write `weights: random` for an untrained control",
                ),
                secondary_paths=((("metrics", group.metric), "reads answers"),),
            )
        )
    return list(dict.fromkeys(found))


def notes(
    groups: Sequence[Group], models: Mapping[str, PlannedModel], fresh: Mapping[str, Collection[str]]
) -> list[str]:
    """What the reader of a run should know of fresh parameters that no answers were read behind."""
    touched: dict[str, dict[str, None]] = {name: {} for name, names in fresh.items() if names}
    for group, name, behind in _reading(groups, models, fresh):
        if any(_node(models[name].sites, site, role) in behind for site, role in _read(group, name)):
            touched[name][group.metric] = None
    return [
        f"The weights of `{name}` do not fill {_some(fresh[name])}: drawn at random, its answers mean nothing. "
        + (
            f"{ticked(list(metrics))} also reads sites behind them."
            if metrics
            else "No metric reads behind them."
        )
        for name, metrics in touched.items()
    ]


def _reading(
    groups: Sequence[Group], models: Mapping[str, PlannedModel], fresh: Mapping[str, Collection[str]]
) -> Iterator[tuple[Group, str, set[fx.Node]]]:
    """Each group with each model of it that has fresh parameters, and the nodes that depend on these."""
    behind = {name: _behind(models[name].sites, names) for name, names in fresh.items() if names}
    for group in groups:
        for name in group.models:
            if name in behind:
                yield group, name, behind[name]


def _behind(sites: Sites, names: Collection[str]) -> set[fx.Node]:
    """The nodes of a graph whose values depend on some parameters."""
    found: set[fx.Node] = set()
    for node in sites.traced.graph.nodes:
        own = node.op in ("call_module", "get_attr") and any(
            node.target in (name, "") or name.startswith(f"{node.target}.") for name in names
        )
        if own or any(source in found for source in node.all_input_nodes):
            found.add(node)
    return found


def _answers(group: Group, planned: PlannedModel, behind: set[fx.Node]) -> bool:
    """Whether a group reads a model's own output, where this depends on fresh parameters."""
    output = planned.sites.traced.output
    read = (_node(planned.sites, site, role) for site, role in _read(group, planned.name))
    return output in behind and any(node is output for node in read)


def _read(group: Group, model: str) -> Iterator[tuple[str, str]]:
    """Names and roles of the sites of a model that a group reads."""
    for reading in (group.x, group.y):
        if reading.model == model:
            yield from ((site.name, role) for site in reading.sites for role in reading.roles)


def _node(sites: Sites, name: str, role: str) -> fx.Node:
    return sites.nodes[role][name] if name else sites.traced.output


def _parameters_of(module: nn.Module, modules: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name, _ in module.named_parameters() if name.rpartition(".")[0] in modules)


def _some(names: Collection[str]) -> str:
    shown = ticked(list(names)[:MOST])
    return shown + (f" and {len(names) - MOST} more" if len(names) > MOST else "")
