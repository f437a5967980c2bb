"""Layers meet a metric: the sites that it reads of them, in which roles, or why it cannot.

Does not own which layers a metric takes, or under which conditions (`bind_metrics`).
"""

from collections.abc import Sequence

from vitdsl.dsl.diagnostics import Diagnostic
from vitdsl.dsl.loaded import Loaded
from vitdsl.runtime.graph.site import Site
from vitdsl.runtime.graph.tokens import refuse_tokens
from vitdsl.runtime.metrics._base import Metric
from vitdsl.runtime.models.feature_model import NO_GRAPH
from vitdsl.runtime.plan.matching import matched
from vitdsl.runtime.plan.plan import PlannedModel, Reading

SAME = "its tensor is the same for every image; read the tokens that it is added to"
NO_TOKENS = "choose other `tokens:`, or other sites with `at:`"


def layer_reading(
    loaded: Loaded, kind: Metric, model: PlannedModel, name: str, problems: list[Diagnostic], *, of_x: bool
) -> Reading | None:
    """What a metric reads of layers; None where something is wrong (noted).

    Args:
        loaded: The study.
        kind: The metric.
        model: The layers' model, or one of its variants.
        name: Name of the layers.
        problems: Where problems are noted.
        of_x: Whether they are the metric's `x`, or like it.
    """
    return _Layers(loaded, kind, model, name, problems, of_x).reading()


class _Layers:
    """One set of layers of one metric."""

    def __init__(
        self,
        loaded: Loaded,
        kind: Metric,
        model: PlannedModel,
        name: str,
        problems: list[Diagnostic],
        of_x: bool,
    ) -> None:
        self.loaded, self.kind, self.model, self.name = loaded, kind, model, name
        self.problems, self.of_x = problems, of_x
        self.entry = loaded.study.layers[name]
        self.roles = kind.inputs.roles if of_x else ("output",)

    def reading(self) -> Reading | None:
        if self.model.entry.features and (self.kind.inputs.image or self.kind.gradients):
            what = (
                f"layers `{self.name}` cannot be read by `{self.kind.name}`, which needs images: {NO_GRAPH}"
            )
            self._unreadable("of", what, "take layers of a model that sees the images")
            return None
        if self.roles[0] not in ("output", self.entry.role):
            what = f"have the role `{self.entry.role}`, and `{self.kind.name}` reads `{self.roles[0]}` of its `x`"
            self._unreadable("role", f"layers `{self.name}` {what}", f"write `role: {self.roles[0]}`")
            return None
        sites = self._sites()
        if not sites:
            return None
        why = self.kind.refuse_together(sites) if self.of_x else None
        if why is not None:
            why, _, instead = why.partition("; ")
            what = f"layers `{self.name}` cannot be read together in `{self.model.name}`: {why}"
            self._unreadable("at", what, instead or "choose other sites with `at:`")
            return None
        return Reading(self.model.name, tuple(sites), (self.entry.role, *self.roles[1:]))

    def _sites(self) -> list[Site]:
        """The sites in order of execution; none where something is wrong."""
        before, entry = len(self.problems), self.entry
        what = f"site of `{self.model.name}` with the role `{entry.role}`"
        at = ("layers", self.name, "at")
        names = matched(self.loaded, at, entry.at, self.model.sites, entry.role, what, self.problems)
        tokens = tuple(entry.tokens) if isinstance(entry.tokens, list) else entry.tokens
        sites = []
        for name in names:
            site = self.model.sites.site(name, entry.role, tokens=tokens)
            unread = SAME if site.fixed else refuse_tokens(site)
            why = unread or (self._refuse_x(site) if self.of_x else self.kind.refuse_y(site))
            if why is not None:
                why, _, instead = why.partition("; ")
                self._unreadable(
                    "tokens" if entry.tokens != "all" else "at",
                    f"layers `{self.name}` cannot read `{name}` of `{self.model.name}`: {why}",
                    instead or NO_TOKENS,
                    notes=(f"one image's tensor there has shape {list(site.shape)}",),
                    general=unread is not None,
                )
                return []
            sites.append(site)
        return sites if len(self.problems) == before else []

    def _refuse_x(self, site: Site) -> str | None:
        """Why the kind is not defined at a site of `x`, in the layers' role or in another that it reads of it."""
        why = self.kind.refuse(site)
        for role in self.roles[1:]:
            if why is None and site.name not in self.model.sites.names(role):
                why = f"it has no tensor with the role `{role}`"
            why = why or self.kind.refuse(self.model.sites.site(site.name, role))
        return why

    def _unreadable(
        self, field: str, message: str, help: str, *, notes: Sequence[str] = (), general: bool = False
    ) -> None:
        """Note that layers cannot be read, once; `general` where that holds for every kind."""
        problem = self.loaded.problem(
            "VD242",
            ("layers", self.name, field),
            message,
            label="not there",
            help=(help,),
            notes=notes,
            about=() if general else (("kind", self.kind.name),),
        )
        if problem not in self.problems:
            self.problems.append(problem)
