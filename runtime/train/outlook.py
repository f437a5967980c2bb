"""How long the trainings of a study take: what is to be trained, and what the rest will need, from what was measured.

Does not own the training (`loop`) or which weights are there (`store`).
"""

import time
from collections.abc import Sequence

from vitdsl.dsl.study import Model
from vitdsl.runtime.models.recipe import check
from vitdsl.runtime.progress import Progress, lasting


class Outlook:
    """Tells, before the first training and after each, how much there is left.

    The rest is extrapolated by passes of images: a model that is slower for each image than those before it
    takes longer than said.
    """

    def __init__(self, models: Sequence[Model], progress: Progress | None) -> None:
        """Say what is to be trained; nothing where that is one model or none."""
        self._loads = [_passes(model) for model in models]
        self._progress = progress if len(models) > 1 else None
        self._done, self._began = 0, time.perf_counter()
        self._say(f"{len(models)} models to train, {sum(self._loads):,.0f} passes of images in all")

    def trained(self) -> None:
        """One more is trained."""
        self._done += 1
        spent = time.perf_counter() - self._began
        left = sum(self._loads[self._done :]) / max(sum(self._loads[: self._done]), 1e-9) * spent
        after = f"about {lasting(left)} left" if self._done < len(self._loads) else "none left"
        self._say(f"{self._done} of {len(self._loads)} models trained in {lasting(spent)}, {after}")

    def _say(self, text: str) -> None:
        if self._progress is not None:
            self._progress.say(text)


def _passes(model: Model) -> float:
    """Images through a model in training; where a recipe takes all images of its data, one stands for all."""
    recipe = check(model)
    assert recipe.data is not None
    return recipe.epochs * (recipe.fraction or 1) * (recipe.data.images or 1)
