"""How long the trainings of a study take: what is to be trained, and what the rest will need, from what was measured.

Does not own the training (`loop`), which weights are there (`store`), or what a training is predicted to take (`cost`).
"""

import time
from collections.abc import Callable, Mapping

from vitdsl.dsl.study import Model
from vitdsl.dsl.text import counted
from vitdsl.runtime.models.recipe import check
from vitdsl.runtime.progress import Progress, lasting

Expected = Callable[[str], float | None]


class Outlook:
    """Tells, before the first training and after each, how much there is left.

    The rest is extrapolated by what each was expected to take; where that is not known of all, by passes of images: a
    model that is slower for each image than those before it then takes longer than said.
    """

    def __init__(
        self, models: Mapping[str, Model], progress: Progress | None, expected: Expected | None = None
    ) -> None:
        """Say what is to be trained; nothing where that is one model or none.

        Args:
            models: What is to be trained, by name.
            progress: Told of it.
            expected: Seconds that training a model takes, by its name, None where that is not known.
        """
        passes = [_passes(model) for model in models.values()]
        self._progress = progress if len(models) > 1 else None
        seconds = [expected(name) for name in models] if expected and self._progress else []
        known = [one for one in seconds if one is not None]
        self._loads = known if known and len(known) == len(models) else passes
        self._done, self._began = 0, time.perf_counter()
        about = f", about {lasting(sum(known))}" if self._loads is known else ""
        epochs = sum(check(model).epochs for model in models.values())
        self._say(f"{len(models)} models to train, {counted(epochs, 'epoch')} in all{about}")

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
