"""Words to paste: a Methods paragraph, the works to cite as BibTeX, and the lines that repeat a run.

All of it is made from what the run knows; what it does not know is left out. Does not own the works
(`vitdsl.runtime.results.references`), or the other facts of the page (`pages`).
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from vitdsl.reports.labels import listing, number, plural, slug
from vitdsl.reports.names import names_of
from vitdsl.runtime.results import references
from vitdsl.runtime.results.folder import Run
from vitdsl.runtime.results.manifest import Manifest, MetricRecord, ModelRecord, PreprocessingRecord
from vitdsl.runtime.results.references import Cited, of_family, works

MOST = 6
"""Models that are named; of more, the first."""
SHORT = 12


def methods(run: Run) -> str:
    """The Methods paragraph."""
    said = [
        _models(run),
        _images(run),
        *_preprocessing(run),
        _measures(run),
        _conditions(run),
        _arithmetic(run.manifest),
        _intervals(run),
        _claims(run),
        _software(run),
    ]
    return " ".join(filter(None, said))


def _arithmetic(manifest: Manifest) -> str:
    folded = ", with batch norms folded into convolutions" if manifest.fast else ""
    return f"Models ran in {manifest.dtype} on {manifest.device}{folded}."


def _models(run: Run) -> str:
    models = run.manifest.models
    called = names_of(run.manifest)
    named = [_model(called.model(name), model) for name, model in list(models.items())[:MOST]]
    more = [f"{len(models) - MOST:,} more"] if len(models) > MOST else []
    return f"We examined {plural(len(models), 'model')}: {listing([*named, *more])}." if models else ""


def _model(name: str, model: ModelRecord) -> str:
    training: Mapping[str, Any] = model.weights.detail.get("training") or {}
    trained = [
        plural(training[key], noun)
        for key, noun in (("images", "image"), ("epochs", "epoch"))
        if key in training
    ]
    weights = f"{model.weights.source} weights" + (f" ({', '.join(trained)})" if trained else "")
    facts = [
        model.arch + _cite(of_family(model.family)),
        f"{number(model.parameters)} parameters",
        weights,
        f"trained without {listing(model.without[:3])}" if model.without else "",
        "read by hooks on its modules" if model.unfollowed else "",
    ]
    return f"{name} ({', '.join(filter(None, facts))})"


def _images(run: Run) -> str:
    said = []
    for name, data in run.manifest.data.items():
        params = [f"{key} {value}" for key, value in data.params.items() if isinstance(value, (str, int))]
        order = f"shuffled with seed {data.seed}" if data.shuffled else "in their own order"
        what = data.what or data.source
        said.append(f"{number(data.images)} images ({name}: {', '.join([what, *params, order])})")
    return f"They saw {listing(said)}." if said else ""


def _preprocessing(run: Run) -> list[str]:
    """One sentence for each way that images were prepared."""
    called = names_of(run.manifest)
    alike: dict[PreprocessingRecord, list[str]] = {}
    for name, model in run.manifest.models.items():
        alike.setdefault(model.preprocessing, []).append(called.model(name))
    said = []
    for how, names in alike.items():
        _, height, width = how.input_size
        for_whom = f"For {listing(names[:MOST])}, images" if len(alike) > 1 else "Images"
        said.append(
            f"{for_whom} were resized to {width} x {height} pixels ({how.interpolation}, {how.crop_mode} crop of "
            f"{100 * how.crop_pct:.3g} %) and normalised with mean {_triple(how.mean)} and standard deviation "
            f"{_triple(how.std)}."
        )
    return said


def _triple(values: Iterable[float]) -> str:
    return f"({', '.join(f'{value:.3g}' for value in values)})"


def _measures(run: Run) -> str:
    kinds: dict[str, list[MetricRecord]] = {}
    for metric in run.manifest.metrics.values():
        kinds.setdefault(metric.kind, []).append(metric)
    said = []
    for kind, metrics in kinds.items():
        ways = dict.fromkeys(
            ", ".join(f"{key} {value}" for key, value in metric.params.items() if isinstance(value, str))
            for metric in metrics
        )
        facts = [f"version {metrics[0].version}", *filter(None, [" or ".join(filter(None, ways))])]
        said.append(f"{kind.replace('_', ' ')} ({', '.join(facts)}{_inside(_known(metrics[0].cites))})")
    return f"We measured {listing(said)}." if said else ""


def _conditions(run: Run) -> str:
    counts = Counter(
        condition.ablation
        for conditions in run.manifest.conditions.values()
        for condition in conditions
        if condition.ablation in run.manifest.ablations
    )
    called = names_of(run.manifest)
    said = [
        f"{called.ablation(name)} ({ablation.kind}, "
        f"{plural(counts[name], 'condition')}{_inside(_known(ablation.cites))})"
        for name, ablation in run.manifest.ablations.items()
        if counts[name]
    ]
    return f"Beside the intact models, these ablations were measured: {listing(said)}." if said else ""


def _intervals(run: Run) -> str:
    parts = sorted(
        {int(np.count_nonzero(data.attrs["left_out"])) for data in run.groups.values() if _cut(data)}
    )
    if not parts:
        return ""
    counts = listing([f"{count:,}" for count in parts])
    return (
        "Intervals of numbers are 95 % intervals over images, by the delete-a-group jackknife over "
        f"{counts} groups of images with Student's t{_cite([works()[references.JACKKNIFE]])}."
    )


def _cut(data: Any) -> bool:
    return "left_out" in data.attrs and bool(data.sizes.get("replicate"))


def _claims(run: Run) -> str:
    count = len(run.manifest.claims)
    if not count:
        return ""
    over = dict.fromkeys(" and ".join(claim.over) for claim in run.manifest.claims.values())
    said = (
        f"The study states {plural(count, 'claim')}; a claim is supported where the whole 95 % interval of its "
        f"difference (over {' or '.join(over)}) lies where the claim needs it, refuted where none of it does, and "
        "undecided otherwise"
    )
    more = (
        f", with verdicts adjusted for the number of claims{_cite([works()[references.HOLM]])}"
        if count > 1
        else ""
    )
    return f"{said}{more}."


def _software(run: Run) -> str:
    packages = run.manifest.environment.packages
    known = [
        f"{name} {packages[package]}{_cite([works()[key]])}"
        for package, name, key in (("torch", "PyTorch", references.TORCH), ("timm", "timm", references.TIMM))
        if package in packages
    ]
    python = f"Python {run.manifest.environment.python}"
    return f"Computed with {listing([f'vitdsl {run.manifest.vitdsl}', *known, python])}."


def _cite(cited: Iterable[Cited]) -> str:
    short = [work.short for work in cited]
    return f" [{'; '.join(short)}]" if short else ""


def _inside(cited: Iterable[Cited]) -> str:
    """Works within brackets that are open already."""
    return "".join(f"; {work.short}" for work in cited)


def _known(keys: Iterable[str]) -> list[Cited]:
    """The works of some keys; those of plugins are not in the file."""
    return [works()[key] for key in keys if key in works()]


def cited(run: Run) -> list[Cited]:
    """Every work that the run's numbers rest on: kinds, architectures, intervals, software."""
    m = run.manifest
    keys = [key for metric in m.metrics.values() for key in metric.cites]
    keys += [key for ablation in m.ablations.values() for key in ablation.cites]
    found = _known(keys) + [work for model in m.models.values() for work in of_family(model.family)]
    found += _known([references.JACKKNIFE] if any(_cut(data) for data in run.groups.values()) else [])
    found += _known([references.HOLM] if len(m.claims) > 1 else [])
    found += _known([references.TORCH, references.TIMM])
    return list({work.key: work for work in found}.values())


def bibtex(run: Run) -> str:
    """The run, the software, and every work that they rest on, as BibTeX."""
    m = run.manifest
    year = m.started_at[:4]
    title = re.sub(r"[{}\\]", "", m.title)
    key = slug(m.study).replace("-", "_")
    own = (
        f"@misc{{{key}_{year},\n  title = {{{{{title}}}}},\n  year = {{{year}}},\n"
        f"  note = {{vitdsl run {m.run_id}}},\n}}\n\n"
        f"@software{{vitdsl,\n  title = {{{{vitdsl: a declarative experiment language for vision models}}}},\n"
        f"  version = {{{m.vitdsl}}},\n  year = {{{year}}},\n}}\n"
    )
    return "\n".join([own, *(work.bibtex for work in cited(run))])


def reproduce(run: Run) -> str:
    """Four lines that repeat the run from its resolved study: install, weights, run, what to compare."""
    m = run.manifest
    packages = m.environment.packages
    pins = [f"{name}=={packages[name]}" for name in ("torch", "timm", "numpy") if name in packages]
    weights = [f"{name} {one.weights.sha256[:SHORT]}" for name, one in m.models.items()]
    more = f", {len(weights) - MOST:,} more" if len(weights) > MOST else ""
    flags = f" --device {m.device}" + (f" {m.inexact}" if m.inexact else "")
    return (
        f"pip install -e . {' '.join(pins)}  # in a checkout of vitdsl {m.vitdsl}\n"
        f"# weights, found or trained by the next line: {', '.join(weights[:MOST])}{more}\n"
        f"vitdsl run spec.resolved.yaml{flags}\n"
        f"vitdsl diff runs/{m.run_id} latest  # the same, or nothing moved\n"
    )
