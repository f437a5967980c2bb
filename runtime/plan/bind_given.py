"""Models that are handed over in Python meet the study: each that it says is given, and no other.

Does not own what a module must be (`models.outside`).
"""

from collections.abc import Iterable, Mapping

from vitdsl.dsl.diagnostics import Diagnostic
from vitdsl.dsl.loaded import Loaded
from vitdsl.dsl.text import ticked
from vitdsl.runtime.models.outside import Given, usual_images
from vitdsl.runtime.models.plugins import is_named
from vitdsl.runtime.plan.plan import PlannedModel


def given_problems(loaded: Loaded, given: Mapping[str, Given]) -> list[Diagnostic]:
    """Models that the study says are given and are not, and modules that no model of it asks for."""
    study, problems = loaded.study, []
    wanted = [name for name, model in study.models.items() if model.given]
    for name in wanted:
        if name not in given:
            problems.append(
                loaded.problem(
                    "VD270",
                    ("models", name, "given"),
                    f"model `{name}` is handed over in Python, and here is none",
                    label="no module of this name",
                    help=(
                        f'run the study in Python: `vitdsl.run("study.yaml", models={{"{name}": module}})`',
                        "or name code that is installed, `arch: package.module:function`: "
                        "`vitdsl explain VD270` says how",
                    ),
                    key=True,
                )
            )
    for name in given:
        if name in wanted:
            continue
        named = name in study.models
        problems.append(
            loaded.problem(
                "VD271",
                ("models", name) if named else ("models",),
                f"a module is handed over for `{name}`, and the study "
                + ("says itself what that model is" if named else "has no model of that name"),
                label="not given" if named else "the models",
                help=(
                    f"write `{name}: {{given: true}}`",
                    f"or hand over what the study takes: {ticked(wanted)}" if wanted else "",
                ),
                key=True,
            )
        )
    return problems


def notes_of(models: Iterable[PlannedModel]) -> list[str]:
    """What the user should know of models that timm does not make."""
    found = []
    for model in models:
        outside = model.entry.given or is_named(model.entry.arch)
        images = usual_images(model.sites.model, model.config) if outside else ""
        if model.entry.given and model.ready is not None:
            known = model.ready.weights.detail
            lacks = (
                f"; no source was found of {ticked(known['without_source'])}"
                if "without_source" in known
                else ""
            )
            found.append(
                f"model `{model.name}` (`{known['class']}`) was handed over in Python: the study alone does not run it "
                f"again. Its state and its source are in the manifest by their hashes{lacks}"
            )
        if model.sites.unfollowed is not None:
            found.append(f"model `{model.name}`: {model.sites.unfollowed.said}")
        if images:
            found.append(f"model `{model.name}` says nothing of its images and gets timm's default: {images}")
    return found
