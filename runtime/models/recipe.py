"""The recipe of a model that is trained: whether it is complete, and timm has what it names.

Does not own: the training (`train`), or the images that it names (`data`).
"""

from timm.optim import list_optimizers

from vitdsl.dsl.diagnostics import Diagnostic, StudyError
from vitdsl.dsl.study import Augment, Model, Train
from vitdsl.dsl.text import did_you_mean
from vitdsl.runtime.models.preprocessing import Preprocessing, training_transform


def check(model: Model) -> Train:
    """The model's recipe, complete.

    Raises:
        StudyError: No data (VD253), an unknown optimizer (VD251) or augmentation policy (VD252).
    """
    recipe = model.train
    if recipe is None or recipe.data is None:
        raise StudyError(
            Diagnostic(
                "VD253",
                f"`train` of `{model.arch}` names no images to train on",
                help=("write `data: {source: ...}` in it, or `recipe: NAME` of a recipe that has them",),
                about=(("train",),),
            )
        )
    known = [str(name) for name in list_optimizers()]
    if recipe.optimizer not in known:
        near = did_you_mean(recipe.optimizer, known, cutoff=0.6)
        raise StudyError(
            Diagnostic(
                "VD251",
                f"timm has no optimizer `{recipe.optimizer}`",
                label="no such optimizer",
                help=(near or f"optimizers: {', '.join(known)}",),
                about=(("train", "optimizer"),),
            )
        )
    try:
        training_transform(
            recipe.augment, Preprocessing((3, 32, 32), (0.5,) * 3, (0.5,) * 3, "bicubic", 1.0, "center")
        )
    except (AssertionError, ValueError, KeyError, TypeError) as error:
        raise StudyError(
            Diagnostic(
                "VD252",
                f"timm does not take `augment` as it stands: {_why(recipe.augment, error)}",
                label="no such policy",
                help=("write `auto_augment` as timm does, such as `rand-m9-mstd0.5-inc1`",),
                about=(("train", "augment", "auto_augment"), ("train", "augment")),
            )
        ) from error
    return recipe


def _why(augment: Augment, error: Exception) -> str:
    policy = augment.auto_augment
    return f"there is no policy `{policy}`" if policy else str(error) or type(error).__name__
