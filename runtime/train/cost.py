"""What training a model takes, told before it starts: the calls of one update, how many there are, images to read.

The calls are those of a real update on tensors without data: forwards, backwards, the optimizer's. Does not own the
work of a call (`graph.work`), the update (`loop`), or how long all this takes on a machine (`run`).
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch
from torch import nn

from vitdsl.dsl.diagnostics import VitdslError
from vitdsl.dsl.study import Augment, Model, Train
from vitdsl.runtime.graph.work import Op, Work
from vitdsl.runtime.models import architectures
from vitdsl.runtime.models.preprocessing import Preprocessing
from vitdsl.runtime.models.recipe import check
from vitdsl.runtime.randomness import isolated
from vitdsl.runtime.train.images import Images, open_images
from vitdsl.runtime.train.loop import criterion_of, descend, optimizer_of, updates_of


@dataclass(frozen=True)
class Size:
    """How much a recipe asks for.

    Attributes:
        updates: Of all epochs.
        batch: Images of an update.
        read: Images that are read and prepared, over all epochs.
        images: The images themselves; None where they are not on this machine.
    """

    updates: int
    batch: int
    read: int
    images: Images | None


def size_of(model: Model, config: Preprocessing, classes: int, *, seed: int, folder: Path) -> Size | None:
    """How much a model's recipe asks for; None where only its images could tell, which are not on this machine.

    Args:
        model: A model with `train`.
        config: Its preprocessing.
        classes: Of its head.
        seed: The study's, where the recipe has none.
        folder: Where relative paths start.
    """
    recipe = check(model)
    assert recipe.data is not None
    own_seed = recipe.seed if recipe.seed is not None else seed
    images: Images | None = None
    try:
        images = open_images(recipe, config, classes, model.arch, own_seed, folder)
    except VitdslError:
        if recipe.data.images is None:
            return None
    count = len(images) if images is not None else _asked(recipe)
    updates = updates_of(count, recipe)
    kept = images.stay(prod(config.input_size)) if images is not None else recipe.augment == Augment()
    read = count if kept else count * recipe.epochs
    return Size(updates * recipe.epochs, -(-count // updates), read, images)


def calls_of(
    model: Model, config: Preprocessing, batch: int, wrap: Callable[[nn.Module], nn.Module] | None = None
) -> Counter[Op]:
    """The calls of one update of a model's training.

    Args:
        model: A model with `train`.
        config: Its preprocessing.
        batch: Images of an update.
        wrap: See `loop.train`.
    """
    recipe = check(model)
    module = architectures.on_meta(model)
    device = next(module.parameters()).device
    with isolated(0), torch.enable_grad():
        called = wrap(module) if wrap else module
        optimizer, criterion = optimizer_of(module, recipe), criterion_of(recipe)
        module.train()
        called.train()
        pixels = torch.zeros(batch, *config.input_size, device=device)
        labels = torch.zeros(batch, dtype=torch.long, device=device)
        for _ in range(2):  # the first makes what an optimizer remembers
            with Work() as work:
                descend(criterion(called(pixels), labels), module, optimizer, recipe.clip_grad)
    return Counter(work.ops)


def _asked(recipe: Train) -> int:
    assert recipe.data is not None and recipe.data.images is not None
    return max(1, round(recipe.data.images * recipe.fraction))
