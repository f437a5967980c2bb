"""Data entries meet their sources: whether they can be opened, hold as many images, and have the labels needed.

Opens what a run would open, and decodes nothing. A source that would use the network is left to the run, and so are
images that are not here where the caller asks for them to be noted.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from vitdsl.dsl.diagnostics import Diagnostic, EnvironmentProblem, StudyError, VitdslError
from vitdsl.dsl.hashing import canonical
from vitdsl.dsl.loaded import Loaded
from vitdsl.dsl.study import OWN, Data
from vitdsl.dsl.sweeps import Variant, sweep_places, variants
from vitdsl.runtime.data.labels import check_classes, check_labelled, check_same_classes
from vitdsl.runtime.data.opening import check_count, check_ids, check_size, open_source, order_of, pixels
from vitdsl.runtime.data.sources._base import SOURCES, ImagesNotHere, Source
from vitdsl.runtime.metrics._base import Metric
from vitdsl.runtime.models.preprocessing import ByImage
from vitdsl.runtime.plan.plan import Group, PlannedModel


@dataclass
class Opened:
    """What is known of a study's streams.

    Attributes:
        sources: Their sources; None where the images are not here, or only a run can open them.
        counts: How many images each stream has, as asked for where they are not here; without those not known.
        notes: What the reader of a run should know of how sources were read.
        shown: How classes became labels, for who checks the study.
    """

    sources: dict[str, Source | None] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()


def open_data(
    loaded: Loaded,
    names: Iterable[str],
    problems: list[Diagnostic],
    missing: list[Diagnostic] | None = None,
) -> Opened:
    """Open data entries, and note what is wrong with them.

    Args:
        loaded: The study.
        names: The entries to open.
        problems: Where problems are noted.
        missing: Where images that are not on this machine are noted; None: they are problems.
    """
    found = Opened()
    opened: dict[str, Source | None] = {}
    notes: dict[str, None] = {}
    shown: dict[str, None] = {}
    for name in names:
        for variant in variants(name, loaded.study.data[name]):
            source = _open(loaded, name, variant, opened, problems, missing)
            found.sources[variant.name] = source
            if source is not None or variant.entry.images is not None:
                found.counts[variant.name] = variant.entry.images or len(source or ())
            if source is not None:
                notes |= dict.fromkeys(f"data.{name}: {one}" for one in source.notes)
                shown |= dict.fromkeys(f"data.{name}: {one}" for one in source.shown)
    if missing is not None:
        missing[:] = dict.fromkeys(missing)
    found.notes, found.shown = tuple(notes), tuple(shown)
    return found


def bind_data(
    loaded: Loaded,
    metrics: Mapping[str, Metric],
    models: Mapping[str, PlannedModel],
    groups: Sequence[Group],
    opened: Opened,
    problems: list[Diagnostic],
) -> None:
    """Note where data do not fit what is measured of them.

    Args:
        loaded: The study.
        metrics: The bound kind of each metric.
        models: The models by name.
        groups: The results to come.
        opened: The sources of the streams.
        problems: Where problems are noted.
    """
    classes: dict[str, tuple[str, ...]] = {}
    study = loaded.study
    for metric, kind in metrics.items():
        if (over := kind.over()) is not None and study.data[over].vary:
            problems.append(several_streams(loaded, ("metrics", metric), over))
    for name, entry in study.data.items():
        readers = [
            metric for metric in metrics if (study.metrics[metric].data or next(iter(study.data))) == name
        ]
        for variant in variants(name, entry):
            source = opened.sources.get(variant.name)
            labelled = source is None or source.has_labels()
            for metric in readers:
                if metrics[metric].labels:
                    problems += _unlabelled(loaded, metric, metrics[metric], name, labelled)
            for metric, kind in metrics.items():
                if kind.over() == name and (fit := kind.fit()) is not None and fit.labels:
                    problems += _unlabelled(loaded, metric, kind, name, labelled)
            if source is None:
                continue
            problems += _other_images(loaded, variant, source, models, groups)
            if labelled:
                _classes(loaded, variant, source, models, groups, problems)
                classes.setdefault(name, source.classes or ())
    for metric, kind in metrics.items():
        problems += _other_classes(loaded, metric, kind, classes)


def _other_images(
    loaded: Loaded,
    variant: Variant[Data],
    source: Source,
    models: Mapping[str, PlannedModel],
    groups: Sequence[Group],
) -> list[Diagnostic]:
    """Features that lack images of a stream that they are measured on."""
    seen = {name for group in groups if group.data == variant.name for name in group.models}
    configs = {name: models[name].config for name in seen if isinstance(models[name].config, ByImage)}
    data = variant.name.partition("[")[0]
    seed = variant.entry.seed if variant.entry.seed is not None else loaded.study.seed
    try:
        check_ids(source, order_of(variant.entry, source, seed) if configs else (), configs)
    except EnvironmentProblem as error:
        return [loaded.source.placed(one, ("data", data)) for one in error.diagnostics]
    return []


def _other_classes(
    loaded: Loaded, metric: str, kind: Metric, classes: Mapping[str, tuple[str, ...]]
) -> list[Diagnostic]:
    """A metric whose fit sees labels of other classes than it does itself; `classes` by data entry, where known."""
    fit, over = kind.fit(), kind.over()
    data = loaded.study.metrics[metric].data or next(iter(loaded.study.data))
    if not kind.labels or fit is None or not fit.labels or over is None:
        return []
    if over not in classes or data not in classes:
        return []
    try:
        check_same_classes(classes[data], classes[over], f"`{kind.name}`", data, over)
    except StudyError as error:
        images = ((("data", data), "measured on these"), (("data", over), "learns from these"))
        return [loaded.source.joined(one, ("metrics", metric), images) for one in error.diagnostics]
    return []


def several_streams(loaded: Loaded, where: tuple[str | int, ...], over: str) -> Diagnostic:
    """A fit over a data entry that is swept: which of its streams is not said."""
    return loaded.problem(
        "VD203",
        where,
        f"`{over}` makes several streams by `vary`, and a fit is over one",
        label="which of them?",
        help=("name a data entry without `vary`",),
        secondary_paths=((("data", over, "vary"), "several streams"),),
    )


def _open(
    loaded: Loaded,
    name: str,
    variant: Variant[Data],
    opened: dict[str, Source | None],
    problems: list[Diagnostic],
    missing: list[Diagnostic] | None,
) -> Source | None:
    entry, where = variant.entry, ("data", name)
    source = loaded.source.moved(sweep_places(where, loaded.study.data[name], variant))
    seed = entry.seed if entry.seed is not None else loaded.study.seed
    kind = SOURCES.kinds()[entry.source]
    change = entry.transform.model_dump() if entry.transform else None
    asked = entry.images if kind.endless else None
    key = canonical([entry.source, entry.params, seed, asked, entry.of, change])
    try:
        if key not in opened:
            opened[key] = None
            if kind.is_local(entry.params):
                other = loaded.study.data.get(entry.of or "")
                opened[key] = open_source(entry, seed=seed, folder=loaded.folder, other=other)
        found = opened[key]
        if found is not None:
            check_count(entry, found)
        return found
    except ImagesNotHere as error:
        placed = [source.placed(one, where) for one in error.diagnostics]
        if missing is None:
            problems += placed
        else:
            missing += placed
            del opened[key]  # another entry on the same images says so, too
        return None
    except VitdslError as error:
        problems += [source.placed(one, where) for one in error.diagnostics]
        return None


def _unlabelled(loaded: Loaded, metric: str, kind: Metric, data: str, labelled: bool) -> list[Diagnostic]:
    """A metric that needs labels, where the images have none."""
    try:
        check_labelled(labelled, f"`{kind.name}`", f"`{data}`")
    except StudyError as error:
        images = ((("data", data), "these images"),)
        return [loaded.source.joined(one, ("metrics", metric), images) for one in error.diagnostics]
    return []


def _classes(
    loaded: Loaded,
    variant: Variant[Data],
    source: Source,
    models: Mapping[str, PlannedModel],
    groups: Sequence[Group],
    problems: list[Diagnostic],
) -> None:
    """The labels of a stream are those that the models predict, where their output is measured."""
    for group in groups:
        if group.data != variant.name or not group.kind.labels or not group.of_output:
            continue
        for name in group.models:
            model = models[name]
            outputs = model.sites.site("", "output").shape[-1]
            try:
                check_classes(
                    variant.entry,
                    source.classes or (),
                    outputs,
                    model.base,
                    made=model.made,
                    of=model.label_set,
                    outputs=model.outputs,
                )
            except VitdslError as error:
                where = ("models", model.base)
                options = loaded.source.exists((*where, "options", "num_classes"))
                path = (*where, "options", "num_classes") if options else (*where, "arch")
                for one in error.diagnostics:
                    data = variant.name.partition("[")[0]
                    problems.append(
                        loaded.problem(
                            one.code,
                            path,
                            one.message,
                            label=f"{outputs} classes",
                            help=one.help,
                            secondary_paths=(
                                (("data", data), f"{len(source.classes or ())} classes"),
                                (("metrics", group.metric), "compares them"),
                            ),
                        )
                    )


def shared_sizes(
    loaded: Loaded, groups: Sequence[Group], models: Mapping[str, PlannedModel]
) -> list[Diagnostic]:
    """Streams with one preprocessing for all, whose models take images of another size."""
    problems: list[Diagnostic] = []
    for group in groups:
        name = group.data.partition("[")[0]
        entry = next(v.entry for v in variants(name, loaded.study.data[name]) if v.name == group.data)
        if entry.preprocess == OWN:
            continue
        shared = next(model.config for model in models.values() if model.base == entry.preprocess)
        for model in (models[one] for one in group.models):
            try:
                check_size(entry, shared, model.name, model.config)
            except StudyError as error:
                taken = ((("models", model.base), f"takes {pixels(model.config)}"),)
                problems += [loaded.source.joined(one, ("data", name), taken) for one in error.diagnostics]
    return list(dict.fromkeys(problems))
