"""The plan: a study with every name resolved, before anything is computed.

Owns the data between binding and running: which conditions each model has, which sites each metric reads, under
which conditions. Does not own how names are resolved (`bind`), or how the results will be labelled (`frames`).
"""

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Generic

from timm.data import infer_imagenet_subset
from typing_extensions import TypeVar

from vitdsl.dsl.loaded import Loaded
from vitdsl.dsl.study import BASELINE, Data, Model
from vitdsl.runtime.ablations._base import Ablation
from vitdsl.runtime.graph.site import Site
from vitdsl.runtime.graph.sites import Sites
from vitdsl.runtime.metrics._base import Fit, Metric, Observer
from vitdsl.runtime.models.loading import LoadedModel
from vitdsl.runtime.models.preprocessing import Preprocessing


@dataclass(frozen=True)
class Edit:
    """An ablation at some places of a model, each a site and its role."""

    kind: Ablation
    sites: tuple[Site, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of its places."""
        return tuple(site.name for site in self.sites)


@dataclass(frozen=True)
class Condition:
    """One model under one ablation instance; `baseline` has no ablation."""

    id: str
    model: str
    ablation: str = ""
    edits: tuple[Edit, ...] = ()
    coordinates: dict[str, Any] = field(default_factory=dict)

    @property
    def sites(self) -> tuple[str, ...]:
        """Names of the places it changes."""
        return tuple(name for edit in self.edits for name in edit.names)


@dataclass(frozen=True)
class PlannedModel:
    """One model of the study, or one variant of a swept one.

    Attributes:
        name: `vit`, or `vit[train.fraction=0.1]`.
        base: The entry's name in the study.
        entry: The entry, its sweep resolved.
        coordinates: The swept fields and their values.
        sites: What can be named in it, found on the meta device with all attention un-fused.
        config: The preprocessing it takes.
        always: Edits that hold at every use: what it was trained without.
        conditions: `baseline` first.
        unfuse: Attention modules whose weights are read or changed.
        ready: The model itself, where it is there already: handed over, and not built from what the study says.
        outputs: The names of its classifier's outputs, where a config beside its weights has them.
        twin_of: Of a model that sees other images beside those of the stream: the name of the one that it is.
        seen: The data entry of these images.
    """

    name: str
    base: str
    entry: Model
    coordinates: dict[str, Any]
    sites: Sites
    config: Preprocessing
    always: tuple[Edit, ...] = ()
    conditions: tuple[Condition, ...] = ()
    unfuse: frozenset[str] = frozenset()
    ready: LoadedModel | None = None
    twin_of: str = ""
    outputs: tuple[str, ...] = ()
    seen: str = ""

    def twin(self, data: str) -> "PlannedModel":
        """The same model where it sees the images of another entry, which stand beside those of the stream."""
        return replace(self, name=twin_name(self.name, data), twin_of=self.name, seen=data)

    @property
    def title(self) -> str:
        """What it is: its architecture, or where else it comes from."""
        return self.entry.what if self.ready is None else self.ready.arch

    @property
    def made(self) -> bool:
        """Whether its weights were made elsewhere, and are taken as they are: its head with them."""
        named = self.entry.train is None and self.entry.weights not in (None, "random")
        return named or self.ready is not None

    @property
    def label_set(self) -> str | None:
        """The label set that the head of pretrained weights was trained on, where timm knows it."""
        return (
            infer_imagenet_subset(self.sites.model)
            if self.entry.weights == "pretrained" and self.made
            else None
        )

    @property
    def edits(self) -> tuple[Edit, ...]:
        """Every edit under any condition."""
        return (*self.always, *(edit for condition in self.conditions for edit in condition.edits))

    @cached_property
    def by_id(self) -> dict[str, Condition]:
        """Its conditions by id."""
        return {condition.id: condition for condition in self.conditions}

    def depth_of(self, condition: Condition) -> float:
        """Depth of the one place that a condition changes; NaN without one."""
        sites = [site for edit in condition.edits for site in edit.sites]
        return sites[0].depth if len(sites) == 1 else float("nan")


@dataclass(frozen=True)
class Reading:
    """Some sites of one model, read in some roles."""

    model: str
    sites: tuple[Site, ...]
    roles: tuple[str, ...]


@dataclass(frozen=True)
class View:
    """One entry of the `condition` dimension: the condition of each side."""

    id: str
    x: str
    y: str
    owner: str


def twin_name(model: str, data: str) -> str:
    """The name of a model where it sees the images of another entry beside those of the stream."""
    return f"{model}@{data}"


Kind = TypeVar("Kind", bound=Observer, covariant=True, default=Metric)


@dataclass(frozen=True)
class Group(Generic[Kind]):
    """One metric of one model or pair of models: one group of the results.

    Attributes:
        metric: The metric's name in the study.
        path: `drift/vit` or `across/vit~resnet`.
        kind: The bound metric, or a fit.
        x: What is read.
        y: What it is compared with; the same object as x within one set of sites.
        views: The conditions, in order.
        paired: Whether each condition is compared with the intact model at the same sites.
        data: Name of the image stream.
        title: Heading, if the study gives one.
    """

    metric: str
    path: str
    kind: Kind
    x: Reading
    y: Reading
    views: tuple[View, ...]
    paired: bool
    data: str
    title: str | None = None

    @property
    def models(self) -> tuple[str, ...]:
        """The models it looks at, x first, each once."""
        return tuple(dict.fromkeys((self.x.model, self.y.model)))

    @property
    def of_output(self) -> bool:
        """Whether it looks at the models' own output, so that labels have to be the classes that they predict."""
        return any(not site.name for site in self.x.sites)


@dataclass(frozen=True)
class Pass:
    """One walk over one stream.

    Attributes:
        data: Name of the stream.
        groups: What it feeds: results, or fits.
        gradients: Whether reductions differentiate.
        step: For fits: 1 on the first pass over their stream, 2 on the next, which needs what that gave, and so on.
    """

    data: str
    groups: tuple[Group[Observer], ...]
    gradients: bool = False
    step: int = 1

    @property
    def fits(self) -> bool:
        """Whether it makes constants for later passes."""
        return any(isinstance(group.kind, Fit) for group in self.groups)

    @property
    def models(self) -> tuple[str, ...]:
        """The models that it looks at, each once."""
        return tuple(dict.fromkeys(model for group in self.groups for model in group.models))

    @property
    def title(self) -> str:
        """What it is called in the log and in timings."""
        words = [self.data]
        if self.fits:
            words.append(f"fits {self.step}" if self.step > 1 else "fits")
        if self.gradients:
            words.append("gradients")
        return ", ".join(words)


@dataclass(frozen=True)
class Plan:
    """Everything that a run will do.

    Attributes:
        loaded: The study.
        data: Image streams by name, sweeps resolved.
        models: Models by name, sweeps resolved.
        groups: The results to come, in order.
        notes: What the user should know: sites that a metric leaves out, files that a folder does.
        swept: For a stream of a swept entry, its coordinates.
        passes: The walks over streams, each after those that it needs.
        about_images: For who checks the study: how classes became labels, where not in the order of their names, and
            what sources left out.
        images: The number of images by stream, where it is known: as asked for where they are not here.
    """

    loaded: Loaded
    data: dict[str, Data]
    models: dict[str, PlannedModel]
    groups: tuple[Group, ...]
    notes: tuple[str, ...] = ()
    swept: dict[str, dict[str, Any]] = field(default_factory=dict)
    passes: tuple[Pass, ...] = ()
    about_images: tuple[str, ...] = ()
    images: dict[str, int] = field(default_factory=dict)

    @property
    def conditions(self) -> int:
        """Number of conditions over all models, baselines included."""
        return sum(len(model.conditions) for model in self.own_models.values())

    @property
    def own_models(self) -> dict[str, PlannedModel]:
        """The models without those that see other images beside a stream's."""
        return {name: model for name, model in self.models.items() if not model.twin_of}

    def groups_on(self, data: str) -> list[Group]:
        """The groups that are measured on a stream."""
        return [group for group in self.groups if group.data == data]

    def models_on(self, data: str) -> list[str]:
        """The models that see a stream, in the order of the study."""
        used = {model for one in self.passes if one.data == data for model in one.models}
        return [model for model in self.models if model in used]

    def preprocessing(self, entry: Data) -> Preprocessing:
        """The preprocessing of the model that a data entry names for all."""
        return next(model.config for model in self.models.values() if model.base == entry.preprocess)

    def condition(self, model: str, id: str) -> Condition:
        """A condition of a model by its id."""
        return self.models[model].by_id[id]


def lanes_of(group: Group[Observer], model: str) -> list[str]:
    """Ids of the conditions under which a group reads a model, each once."""
    found = [view.x for view in group.views if group.x.model == model]
    found += [view.y for view in group.views if group.y.model == model]
    return list(dict.fromkeys(found))


def baseline_of(model: str) -> Condition:
    """The intact model."""
    return Condition(BASELINE, model)
