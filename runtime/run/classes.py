"""What a run's streams and weights say of classes, before anything is computed: labels that fit, heads that are filled.

Does not own what is right (`data/labels`, `plan/fresh`); binding asks the same of what it can see.
"""

from collections.abc import Mapping
from typing import Any

from vitdsl.dsl.diagnostics import StudyError
from vitdsl.runtime.data import labels
from vitdsl.runtime.data.stream import Stream
from vitdsl.runtime.models.loading import LoadedModel
from vitdsl.runtime.plan import fresh
from vitdsl.runtime.plan.passes import fit_of
from vitdsl.runtime.plan.plan import Plan


def check_labels(plan: Plan, streams: Mapping[str, Stream]) -> None:
    """Make sure that the images of every group have the labels that it needs.

    Raises:
        StudyError: They have none (VD241), other classes than a model predicts (VD404), or than a fit learns (VD246).
    """
    for group in (group for one in plan.passes for group in one.groups):
        if not group.kind.labels:
            continue
        who, stream = f"`{group.kind.name}`", streams[group.data]
        labels.check_labelled(stream.labelled, who, f"`{group.data}`")
        for name in group.models if group.of_output else ():
            model = plan.models[name]
            classes = model.sites.site("", "output").shape[-1]
            labels.check_labels(stream, classes, name, made=model.made, of=model.label_set)
        fit = fit_of(group)
        if fit is not None and fit.kind.labels:
            learned = streams[fit.data].classes or ()
            labels.check_same_classes(stream.classes or (), learned, who, group.data, fit.data)


def check_order(plan: Plan, streams: Mapping[str, Stream], models: Mapping[str, LoadedModel]) -> None:
    """Make sure that the classes of images are in the order that the config of weights of the hub names.

    Raises:
        StudyError: They are not (VD404).
    """
    for group in (
        group for one in plan.passes for group in one.groups if group.kind.labels and group.of_output
    ):
        for name in group.models:
            loaded, stream = models[name], streams[group.data]
            config: Any = getattr(loaded.module, "pretrained_cfg", None) or {}
            outputs = config.get("label_names") if loaded.weights.origin == "hub" else None
            if outputs and plan.models[name].made:
                labels.check_classes(
                    stream.data, stream.classes or (), len(outputs), name, made=True, outputs=outputs
                )


def check_heads(plan: Plan, models: Mapping[str, LoadedModel]) -> list[str]:
    """Make sure that no group reads answers of a head that the weights do not fill.

    Args:
        plan: The plan.
        models: The models with their weights.

    Returns:
        What the reader should know of parameters that the weights do not fill.

    Raises:
        StudyError: A group reads answers behind such parameters (VD304).
    """
    left = {
        name: loaded.weights.detail.get("fresh", ())
        for name, loaded in models.items()
        if name in plan.own_models
    }
    wrong = fresh.problems(plan.loaded, plan.groups, plan.models, left)
    if wrong:
        raise StudyError(wrong)
    return fresh.notes(plan.groups, plan.models, left)
