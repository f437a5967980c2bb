"""Data entries meet their sources: whether they can be opened, hold as many images, and have the labels needed.

Opens what a run would open, and decodes nothing. A source that would use the network is left to the run.
"""

from collections.abc import Mapping, Sequence

from vitdsl.dsl.diagnostics import Diagnostic, VitdslError
from vitdsl.dsl.hashing import canonical
from vitdsl.dsl.loaded import Loaded
from vitdsl.dsl.study import OWN, Data
from vitdsl.dsl.sweeps import Variant, sweep_places, variants
from vitdsl.runtime.data.sources._base import Source
from vitdsl.runtime.data.stream import check_classes, check_count, open_source
from vitdsl.runtime.kinds import SOURCES
from vitdsl.runtime.metrics._base import Metric
from vitdsl.runtime.plan.places import placed
from vitdsl.runtime.plan.plan import Group, PlannedModel


def bind_data(
    loaded: Loaded,
    metrics: Mapping[str, Metric],
    models: Mapping[str, PlannedModel],
    groups: Sequence[Group],
    problems: list[Diagnostic],
) -> None:
    """Open the data of a study's metrics, and note what is wrong with them.

    Args:
        loaded: The study.
        metrics: The bound kind of each metric.
        models: The models by name.
        groups: The results to come.
        problems: Where problems are noted.
    """
    opened: dict[str, Source | None] = {}
    study = loaded.study
    for name, entry in study.data.items():
        readers = [
            metric for metric, one in study.metrics.items() if (one.data or next(iter(study.data))) == name
        ]
        if not readers:
            continue
        for variant in variants(name, entry):
            source = _open(loaded, name, variant, opened, problems)
            labelled = source is None or source.classes is not None
            for metric in readers:
                if metrics[metric].labels and not labelled:
                    problems.append(_unlabelled(loaded, metric, metrics[metric], name))
            if source is not None and labelled:
                _classes(loaded, variant, source, models, groups, problems)
    problems[:] = dict.fromkeys(problems)


def _open(
    loaded: Loaded,
    name: str,
    variant: Variant[Data],
    opened: dict[str, Source | None],
    problems: list[Diagnostic],
) -> Source | None:
    entry, where = variant.entry, ("data", name)
    source = loaded.source.moved(sweep_places(where, loaded.study.data[name], variant))
    seed = entry.seed if entry.seed is not None else loaded.study.seed
    key = canonical([entry.source, entry.params, seed])
    try:
        if key not in opened:
            opened[key] = None
            kind = SOURCES.kinds()[entry.source]
            if kind.is_local(entry.params):
                opened[key] = open_source(entry, seed=seed, folder=loaded.folder)
        found = opened[key]
        if found is not None:
            check_count(entry, found)
        return found
    except VitdslError as error:
        problems += [placed(source, where, one) for one in error.diagnostics]
        return None


def _unlabelled(loaded: Loaded, metric: str, kind: Metric, data: str) -> Diagnostic:
    return loaded.problem(
        "VD241",
        ("metrics", metric, "kind"),
        f"`{kind.name}` needs labels, and the images of `{data}` have none",
        label="needs labels",
        help=("take images in class folders or a source with labels, or leave this metric out",),
        secondary_paths=((("data", data), "these images"),),
    )


def _classes(
    loaded: Loaded,
    variant: Variant[Data],
    source: Source,
    models: Mapping[str, PlannedModel],
    groups: Sequence[Group],
    problems: list[Diagnostic],
) -> None:
    """The labels of a stream are those that the models predict."""
    for group in groups:
        if group.data != variant.name or not group.kind.labels:
            continue
        for name in group.models:
            model = models[name]
            outputs = model.sites.site("", "output").shape[-1]
            try:
                check_classes(variant.entry, source.classes or (), outputs, model.base)
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
        shared = next(model for model in models.values() if model.base == entry.preprocess)
        height, width = shared.config.input_size[1:]
        for model in (models[one] for one in group.models):
            size = model.config.input_size[1:]
            if size != (height, width):
                problems.append(
                    loaded.problem(
                        "VD234",
                        ("data", name, "preprocess"),
                        f"`preprocess: {entry.preprocess}` gives images of {height} x {width} pixels, "
                        f"and model `{model.name}` takes {size[0]} x {size[1]}",
                        label=f"{height} x {width} pixels",
                        help=("build both for one size (`options: {img_size: N}` or `input_size: N`)",),
                        secondary_paths=((("models", model.base), f"takes {size[0]} x {size[1]}"),),
                    )
                )
    return list(dict.fromkeys(problems))


def small_batches(loaded: Loaded, groups: Sequence[Group], data: Mapping[str, Data]) -> list[Diagnostic]:
    """Streams whose batches are too small for what a metric estimates from one batch.

    Args:
        loaded: The study.
        groups: What will be measured.
        data: The streams by name, sweeps resolved.
    """
    problems = []
    for group in groups:
        needed, entry = group.kind.smallest_batch, data[group.data]
        if min(entry.batch, entry.images or entry.batch) < needed:
            name = group.data.partition("[")[0]
            field = "batch" if entry.batch < needed else "images"
            problems.append(
                loaded.problem(
                    "VD302",
                    ("data", name, field),
                    f"`{group.kind.name}` needs batches of at least {needed} images",
                    label="too few",
                    help=("write `batch: 32` or so; larger batches make single cells less noisy",),
                    secondary_paths=((("metrics", group.metric), "the metric"),),
                )
            )
    return list(dict.fromkeys(problems))
