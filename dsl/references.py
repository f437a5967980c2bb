"""Names across a study: what refers to what, and whether it may.

Owns every check that needs two entries of a study and no model, and asks for those of one entry: claims' forms
(`claim_forms`), selectors' syntax (`selectors`), sweeps' paths (`sweeps`). Does not own what needs the runtime:
kinds, architectures, sites (bound later).
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from vitdsl.dsl.claim_entries import Claim
from vitdsl.dsl.claim_forms import form_problems, quantities_of
from vitdsl.dsl.diagnostics import Diagnostic
from vitdsl.dsl.entries import Data, Metric, Model
from vitdsl.dsl.known import unknown
from vitdsl.dsl.nodes import Path as Where
from vitdsl.dsl.origins import origin_problems
from vitdsl.dsl.pairing import pairing_problems
from vitdsl.dsl.rest import is_dropped, names_of
from vitdsl.dsl.selectors import SelectorError, check, parse
from vitdsl.dsl.source import SourceMap, dotted
from vitdsl.dsl.sweeps import sweep_problems
from vitdsl.dsl.text import Hints, shown, ticked
from vitdsl.dsl.words import BASELINE, OWN

if TYPE_CHECKING:
    from vitdsl.dsl.study import Study


def reference_problems(
    study: "Study", source: SourceMap, dropped: frozenset[Where] = frozenset()
) -> list[Diagnostic]:
    """Everything that is wrong between the entries of a study.

    Args:
        study: The study, or what can be read of it.
        source: Where its values were written.
        dropped: What cannot be read; names of it are nothing wrong.
    """
    return list(_Checker(study, source, dropped).problems())


class _Checker:
    def __init__(self, study: "Study", source: SourceMap, dropped: frozenset[Where]) -> None:
        self._study = study
        self._source = source
        self._dropped = dropped
        self._hints = Hints()

    def problems(self) -> Iterator[Diagnostic]:
        study = self._study
        for name, data in study.data.items():
            yield from self._data(data, ("data", name))
        for name, model in study.models.items():
            if name == OWN:
                yield self._reserved(("models", name), "`own` means each model's own preprocessing")
            yield from self._model(name, model)
        for name, layer in study.layers.items():
            yield from self._known(layer.of, "models", ("layers", name, "of"))
            yield from self._selectors(layer.at, ("layers", name, "at"))
            yield from self._twice(layer.tokens, ("layers", name, "tokens"))
        for name, ablation in study.ablations.items():
            if name == BASELINE:
                yield self._reserved(("ablations", name), "`baseline` means the intact model")
            yield from self._known(ablation.of, "models", ("ablations", name, "of"))
            yield from self._selectors(ablation.at, ("ablations", name, "at"))
            yield from self._twice(ablation.tokens, ("ablations", name, "tokens"))
            yield from sweep_problems("ablations", name, ablation, self._source)
        for name, metric in study.metrics.items():
            yield from self._metric(name, metric)
        if study.show is not None and study.show not in study.claims:
            yield from self._known(study.show, "metrics", ("show",))
        yield from pairing_problems(study, self._source)
        for name, claim in study.claims.items():
            yield from self._claim(claim, ("claims", name))

    def _reserved(self, path: Where, meaning: str) -> Diagnostic:
        return self._source.problem(
            "VD202",
            path,
            f"{meaning}, and cannot name one of the {path[0]}",
            label="a reserved name",
            help=["choose another name"],
            key=True,
        )

    def _twice(self, listed: object, path: Where) -> Iterator[Diagnostic]:
        """What stands twice in a list of names, selectors, tokens or coordinates."""
        seen: set[object] = set()
        for index, one in enumerate(listed if isinstance(listed, (list, tuple)) else ()):
            if one in seen:
                yield self._source.problem(
                    "VD209",
                    (*path, index),
                    f"`{shown(one)}` stands twice in `{dotted(path)}`",
                    label="again here",
                    help=["keep one of the two"],
                )
            seen.add(one)

    def _data(self, data: Data, path: Where) -> Iterator[Diagnostic]:
        if data.preprocess != OWN:
            yield from self._known(data.preprocess, "models", (*path, "preprocess"), extra=(OWN,))
        if data.of is not None and len(path) == 2:
            yield from self._known(data.of, "data", (*path, "of"))
        elif data.of is not None:
            yield self._source.problem(
                "VD247",
                (*path, "of"),
                "images to train on stand beside no others",
                label="not here",
                help=["write `source:` with its fields"],
                key=True,
            )
        if len(path) == 2:
            yield from sweep_problems("data", str(path[1]), data, self._source)
        elif data.vary:
            yield self._source.problem(
                "VD207",
                (*path, "vary"),
                "training data cannot vary by itself",
                label="not here",
                help=["vary it from the model: `vary: {train.data.images: [256, 512]}`"],
                key=True,
            )

    def _model(self, name: str, model: Model) -> Iterator[Diagnostic]:
        path = ("models", name)
        yield from origin_problems(name, model, self._source)
        train = model.train
        if train is not None:
            yield from self._training(name, train.data, train.without, (*path, "train"))
        yield from sweep_problems("models", name, model, self._source)

    def _training(
        self, name: str, data: Data | None, without: Sequence[str] | None, path: Where
    ) -> Iterator[Diagnostic]:
        if data is None:
            yield self._source.problem(
                "VD253",
                path,
                f"`{dotted(path)}` names no images to train on",
                label="`data` is required here",
                help=["add `data:` with the training images, or `recipe:` with a recipe that has them"],
                key=True,
            )
        else:
            yield from self._data(data, (*path, "data"))
        yield from self._twice(without, (*path, "without"))
        for index, ablation in enumerate(without or ()):
            at = self._item((*path, "without"), index)
            yield from self._known(ablation, "ablations", at)
            other = self._study.ablations.get(ablation)
            if other is not None and other.of != name:
                yield self._foreign(ablation, other.of, f"model `{name}` is trained without it", at)

    def _metric(self, name: str, metric: Metric) -> Iterator[Diagnostic]:
        path: Where = ("metrics", name)
        for field, names in (("of", metric.of), ("under", metric.under)):
            yield from self._twice(names, (*path, field))
        for index, model in enumerate(metric.of or ()):
            yield from self._known(model, "models", self._item((*path, "of"), index))
        for field, layer in (("x", metric.x), ("y", metric.y)):
            if layer is not None:
                yield from self._known(layer, "layers", (*path, field))
        yield from self._selectors(metric.at, (*path, "at"))
        yield from self._inputs(name, metric, path)
        yield from self._under(metric, path)
        if metric.against_data is not None:
            yield from self._known(metric.against_data, "data", (*path, "against"), extra=(BASELINE,))
        streams = list(dict.fromkeys([*self._study.data, *names_of(self._dropped, "data")]))
        if metric.data is not None:
            yield from self._known(metric.data, "data", (*path, "data"))
        elif len(streams) > 1:
            yield self._source.problem(
                "VD203",
                path,
                f"`{dotted(path)}` does not say which data it takes",
                label="`data` is required where there are several",
                help=[f"add `data:` with one of {ticked(streams)}"],
                key=True,
            )

    def _inputs(self, name: str, metric: Metric, path: Where) -> Iterator[Diagnostic]:
        if metric.of is None and metric.x is None:
            if metric.y is not None:
                message, hint = f"metric `{name}` has `y` but no `x`", "name the first set of layers as `x`"
            else:
                message = f"metric `{name}` looks at nothing"
                hint = "add `of:` with models, or `x:` with layers"
            yield self._source.problem("VD222", path, message, label="no input", help=[hint], key=True)

    def _under(self, metric: Metric, path: Where) -> Iterator[Diagnostic]:
        looked_at = self._models_of(metric)
        for index, ablation in enumerate(metric.under or ()):
            at = self._item((*path, "under"), index)
            if ablation == BASELINE:
                continue
            yield from self._known(ablation, "ablations", at, extra=(BASELINE,))
            other = self._study.ablations.get(ablation)
            if other is not None and looked_at is not None and other.of not in looked_at:
                yield self._foreign(ablation, other.of, f"`{dotted(path)}` looks at {ticked(looked_at)}", at)

    def _models_of(self, metric: Metric) -> list[str] | None:
        """The models that a metric looks at; None where one of its names does not exist."""
        found = list(metric.of or ())
        for name in (metric.x, metric.y):
            if name is not None:
                if name not in self._study.layers:
                    return None
                found.append(self._study.layers[name].of)
        unknown = any(name not in self._study.models for name in found)
        return None if unknown else list(dict.fromkeys(found))

    def _claim(self, claim: Claim, path: Where) -> Iterator[Diagnostic]:
        for side, quantity in quantities_of(claim):
            yield from self._known(quantity.metric, "metrics", (*path, side, "metric"))
            for coordinate, kept in quantity.where.items():
                yield from self._twice(kept, (*path, side, "where", coordinate))
        yield from form_problems(claim, path, self._source)

    def _foreign(self, ablation: str, model: str, reason: str, path: Where) -> Diagnostic:
        return self._source.problem(
            "VD205",
            path,
            f"ablation `{ablation}` is of model `{model}`, but {reason}",
            label="never happens here",
            help=["name an ablation of the same model"],
            secondary_paths=[(("ablations", ablation, "of"), f"`{ablation}` is of `{model}`")],
        )

    def _known(
        self, name: str, section: str, path: Where, extra: tuple[str, ...] = ()
    ) -> Iterator[Diagnostic]:
        if is_dropped(self._dropped, section, name):
            return
        there = (*extra, *names_of(self._dropped, section))
        problem = unknown(self._study, self._source, name, section, path, extra=there, hints=self._hints)
        if problem is not None:
            yield problem

    def _selectors(self, selectors: Sequence[str] | None, path: Where) -> Iterator[Diagnostic]:
        if selectors is None:
            return
        yield from self._twice(selectors, path)
        broken = False
        for index, text in enumerate(selectors):
            try:
                parse(text)
            except SelectorError as error:
                broken = True
                yield self._bad_selector(text, error, self._item(path, index))
        if not broken:
            try:
                check(selectors)
            except SelectorError as error:
                yield self._bad_selector(selectors[0], error, self._item(path, 0))

    def _bad_selector(self, text: str, error: SelectorError, path: Where) -> Diagnostic:
        return self._source.problem(
            "VD211",
            path,
            f"selector `{shown(text)}`: {error}",
            label="here",
            help=[error.hint],
            within=(error.start, error.end),
        )

    def _item(self, path: Where, index: int) -> Where:
        """The place of one of a list, which may have been written as a single value."""
        inner = (*path, index)
        return inner if self._source.exists(inner) else path
