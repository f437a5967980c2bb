"""Metrics meet their models, layers and conditions: the groups of the results.

Owns which sites of models a metric reads, and under which conditions. Does not own kinds and their parameters
(`bind_kinds`), which inputs a kind takes (`bind_inputs`), or the sites of layers (`bind_layers`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from vitdsl.dsl.diagnostics import Diagnostic
from vitdsl.dsl.loaded import Loaded
from vitdsl.dsl.study import BASELINE
from vitdsl.dsl.study import Metric as MetricEntry
from vitdsl.runtime.graph.site import Site
from vitdsl.runtime.metrics._base import Metric
from vitdsl.runtime.models.feature_model import NO_GRAPH
from vitdsl.runtime.plan.bind_layers import layer_reading
from vitdsl.runtime.plan.left_out import hidden_of, in_words, left_out
from vitdsl.runtime.plan.matching import matched, role_words
from vitdsl.runtime.plan.plan import Condition, Group, PlannedModel, Reading, View, twin_name

Models = Mapping[str, PlannedModel]


def bind_metrics(
    loaded: Loaded,
    models: Models,
    kinds: Mapping[str, Metric],
    streams: Mapping[str, Sequence[str]],
    problems: list[Diagnostic],
) -> tuple[list[Group], list[str]]:
    """The groups of a study's metrics, in order, and notes about sites that were left out.

    Args:
        loaded: The study.
        models: Models by name, with their conditions.
        kinds: The bound kind of each metric.
        streams: For each data entry, the names of its streams: several where it is swept.
        problems: Where problems are noted.
    """
    groups: list[Group] = []
    notes: list[str] = []
    for name, entry in loaded.study.metrics.items():
        binder = _Binder(loaded, models, name, entry, kinds[name], problems, notes)
        found = binder.groups()
        names = streams[binder.data]
        groups += [
            replace(group, data=stream, path=f"{group.path}@{stream}" if len(names) > 1 else group.path)
            for stream in names
            for group in found
        ]
    return groups, notes


def twins_of(groups: Sequence[Group], models: Models) -> dict[str, PlannedModel]:
    """The models of some groups that see the images of another entry beside those of the group's stream."""
    found = {}
    for group in groups:
        name, beside, data = group.y.model.rpartition("@")
        if beside and group.y.model not in models:
            found[group.y.model] = models[name].twin(data)
    return found


class _Binder:
    """One metric."""

    def __init__(
        self,
        loaded: Loaded,
        models: Models,
        name: str,
        entry: MetricEntry,
        kind: Metric,
        problems: list[Diagnostic],
        notes: list[str],
    ) -> None:
        self.loaded, self.models, self.name, self.entry, self.kind = loaded, models, name, entry, kind
        self.problems, self.notes = problems, notes
        self.where = ("metrics", name)
        self.data = entry.data or next(iter(loaded.study.data))

    def groups(self) -> list[Group]:
        before = len(self.problems)
        found = self._of_models() if self.kind.inputs.of == "models" else self._of_layers()
        seen = [group for group in found if group.views]
        self.notes.extend(
            f"metric `{self.name}` leaves out `{'` and `'.join(group.models)}`: none of its conditions is in `under`"
            for group in found
            if seen and not group.views
        )
        if found and not seen and len(self.problems) == before:
            self._problem(
                ("under",),
                "nothing is left to compute: a model trained `without` an ablation never has it as a condition",
                label="never happens here",
                help=("name other ablations, or `baseline`",),
                code="VD205",
            )
        return seen

    def _of_models(self) -> list[Group]:
        groups = []
        for base in self.entry.of or ():
            for model in self._variants(base):
                if model.entry.features:
                    self._refused(model, NO_GRAPH)
                    continue
                sites = self._places(model)
                if sites:
                    reading = Reading(model.name, tuple(sites), self.kind.inputs.roles)
                    beside = self._beside(reading)
                    views = [
                        View(c.id, c.id, c.id if beside else BASELINE, model.name)
                        for c in self._conditions(model)
                    ]
                    groups.append(self._group(model.name, reading, beside or reading, views))
        return groups

    def _places(self, model: PlannedModel) -> list[Site]:
        """The sites of a metric of models: those it is defined at; all of those that `at` names must be."""
        table, role = model.sites, self.kind.inputs.roles[0]
        if role == "output" and getattr(table.model, "num_classes", None) == 0:
            self._no_answers(model)
            return []
        if role == "output":
            candidates = {"": table.site("", role)}
        else:
            if not table.names(role):
                what = "attention weights" if role == "attention" else "residual units"
                hidden = hidden_of(table, role)
                reason = f"it has no {what}"
                if hidden and role == "attention":
                    reason = f"all of its attention is hidden, {in_words(hidden, role)}"
                if table.unfollowed is not None:
                    reason = f"it is read by hooks, which find no {what}: {table.unfollowed.why}"
                self._refused(model, reason)
                return []
            what = f"{role_words(role)} of `{model.name}`"
            about = (("models", model.base),)
            found = matched(
                self.loaded, (*self.where, "at"), self.entry.at, table, role, what, self.problems, about
            )
            candidates = {name: table.site(name, role) for name in found}
        kept, refused = [], {}
        for name, site in candidates.items():
            why = self.kind.refuse(site)
            if why is None:
                kept.append(site)
            else:
                refused[name] = why
        if refused and (self.entry.at is not None or self.kind.together or not kept):
            name, why = next(iter(refused.items()))
            self._refused(model, f"at `{name}`, {why}" if name else why, kept)
            return []
        said = left_out(table, model.name, role, len(kept), refused, named=self.entry.at is not None)
        if said:
            self.notes.append(f"metric `{self.name}` {said}")
        return kept

    def _no_answers(self, model: PlannedModel) -> None:
        """Note that a model whose head is off is asked for its answers."""
        where = ("models", model.base, "options", "num_classes")
        problem = self.loaded.problem(
            "VD302",
            where if self.loaded.source.exists(where) else (*self.where, "of"),
            f"`{self.kind.name}` reads the answers of `{model.name}` ({model.title}), and it gives features: "
            "with `num_classes: 0` it has no head",
            label="takes its head off" if self.loaded.source.exists(where) else "has no head",
            help=(
                "leave `num_classes` out, or write how many classes there are",
                "or measure features: `kind: linear_probe` with layers of this model",
            ),
            secondary_paths=((self.where, "reads answers"),),
            about=(("arch", model.title),),
        )
        if problem not in self.problems:
            self.problems.append(problem)

    def _refused(self, model: PlannedModel, why: str, kept: Sequence[Site] = ()) -> None:
        narrow = f", or narrow `at:`, such as to `{kept[0].name}`" if kept else ""
        of = self.entry.of or ()
        self._problem(
            ("of", of.index(model.base)) if len(of) > 1 else ("of",),
            f"`{self.kind.name}` is not defined for `{model.name}` ({model.title}): {why}",
            label="not defined for it",
            help=(f"leave this model out of the metric{narrow}",),
            code="VD302",
            about=(("arch", model.title),),
        )

    def _of_layers(self) -> list[Group]:
        x_name, y_name = self.entry.x or "", self.entry.y or self.entry.x or ""
        x_entry, y_entry = self.loaded.study.layers[x_name], self.loaded.study.layers[y_name]
        groups = []
        for x_model in self._variants(x_entry.of):
            x = self._layer(x_model, x_name, of_x=True)
            for y_model in [x_model] if x_entry.of == y_entry.of else self._variants(y_entry.of):
                same = y_name == x_name and not self.kind.inputs.unlike
                y = x if same else self._layer(y_model, y_name, of_x=not self.kind.inputs.unlike)
                if x is None or y is None:
                    continue
                y = self._beside(y) or y
                label = x_model.name if x_model is y_model else f"{x_model.name}~{y_model.name}"
                groups.append(self._group(label, x, y, self._views(x_model, y_model)))
        return groups

    def _layer(self, model: PlannedModel, name: str, *, of_x: bool) -> Reading | None:
        return layer_reading(self.loaded, self.kind, model, name, self.problems, of_x=of_x)

    def _views(self, x: PlannedModel, y: PlannedModel) -> list[View]:
        against = self.entry.against == BASELINE
        views = [View(c.id, c.id, BASELINE if against else c.id, x.name) for c in self._conditions(x)]
        if x is not y:
            views = [View(view.id, view.x, BASELINE, x.name) for view in views]
            views += [View(c.id, BASELINE, c.id, y.name) for c in self._conditions(y) if c.ablation]
        return views

    def _beside(self, reading: Reading) -> Reading | None:
        """The same sites of the same model, on the images that the metric compares with; None where it names none."""
        data = self.entry.against_data
        return replace(reading, model=twin_name(reading.model, data)) if data is not None else None

    def _conditions(self, model: PlannedModel) -> list[Condition]:
        under = self.entry.under
        return [c for c in model.conditions if under is None or (c.ablation or BASELINE) in under]

    def _group(self, label: str, x: Reading, y: Reading, views: Sequence[View]) -> Group:
        return Group(
            self.name,
            f"{self.name}/{label.replace('/', '|')}",
            self.kind,
            x,
            y,
            tuple(views),
            self.entry.against is not None and self.entry.y is None and self.kind.inputs.of == "layers",
            self.data,
            self.entry.title,
        )

    def _variants(self, base: str) -> list[PlannedModel]:
        return [model for model in self.models.values() if model.base == base]

    def _problem(
        self,
        path: tuple[str | int, ...],
        message: str,
        *,
        label: str = "",
        help: Sequence[str] = (),
        key: bool = False,
        code: str = "VD222",
        about: Sequence[tuple[str, ...]] = (),
    ) -> None:
        place = (*self.where, *path)
        self.problems.append(
            self.loaded.problem(code, place, message, label=label, help=help, key=key, about=about)
        )
