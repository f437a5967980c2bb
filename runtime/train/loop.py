"""Training: a model's weights from its `train` entry, from scratch or onwards from what it starts from.

Owns: the loop, and that the same recipe gives the same weights on the same machine, bit for bit on the CPU. Does not
own: which images are trained on (`images`), whether a recipe is complete (`models/recipe`), where trained weights are
kept (`store`), what an ablation does during training (the caller wraps the model), how progress is shown.

In each epoch every image is seen once, in an order drawn from the seed, in batches of `batch` images or one
fewer (the images are dealt evenly, so that no short batch upsets a batch norm). The learning rate changes
after each batch. `step` divides it by ten after each third of the epochs; `cosine` and `linear` end at
zero.

Several processes (`ranks`) train as one would: each takes its share of every batch, and the loss is weighted so that
the gradient is the mean over the whole batch. What differs is the order of float32 sums, and which masks a dropout
draws.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from torch import nn

from vitdsl.dsl.diagnostics import Diagnostic, StudyError
from vitdsl.dsl.study import Model, Train
from vitdsl.runtime.full import telling
from vitdsl.runtime.models import architectures
from vitdsl.runtime.models import loading as models
from vitdsl.runtime.models.loading import LoadedModel
from vitdsl.runtime.models.recipe import check
from vitdsl.runtime.progress import Progress, Silent
from vitdsl.runtime.randomness import isolated, permutation, seed_of
from vitdsl.runtime.ranks import ALONE, Ranks
from vitdsl.runtime.train.images import Images, classes_of, open_images
from vitdsl.runtime.train.sharing import chance, shared, why_alone

SCHEDULES: dict[str, dict[str, Any]] = {
    "cosine": {"sched": "cosine"},
    "linear": {"sched": "poly", "decay_rate": 1.0},
    "step": {"sched": "step", "decay_rate": 0.1},
    "constant": {"sched": "step", "decay_rate": 1.0},
}


@dataclass(frozen=True)
class Trained:
    """A trained model and how the last epoch went.

    Attributes:
        model: The model, ready for use; its weights say `trained`.
        stats: Ready for JSON: images, classes, epochs, loss and accuracy of the last epoch, seconds, processes.
    """

    model: LoadedModel
    stats: dict[str, Any]


def train(
    model: Model,
    *,
    seed: int,
    folder: Path,
    device: torch.device | None = None,
    wrap: Callable[[nn.Module], nn.Module] | None = None,
    progress: Progress | None = None,
    name: str = "",
    ranks: Ranks = ALONE,
) -> Trained:
    """Train a model as its `train` entry says; all ranks call this alike, and get the same weights.

    Args:
        model: A model with `train`, its recipe filled in.
        seed: The study's, where the entry has none.
        folder: Where relative paths start.
        device: Where to train; None is the CPU.
        wrap: Gives the model that is called in training, with the same parameters and buffers: one under an
            ablation.
        progress: Told of each epoch.
        name: What progress calls the model; empty for its architecture.
        ranks: Which of several processes this is. What they cannot train together, the first trains alone.

    Raises:
        StudyError: No data (VD253), an unknown optimizer (VD251) or policy (VD252), labels that do not fit
            (VD241, VD404), a loss that is not a number (VD503).
        EnvironmentProblem: As `models.load` and `stream.open_stream`.
    """
    assert model.train is not None
    recipe = check(model)
    device = device or torch.device("cpu")
    order_seed = recipe.seed if recipe.seed is not None else seed
    with ranks.leader_first():
        start = models.load(model, seed=seed, folder=folder)
    classes = classes_of(start.module, start.config)
    images = open_images(recipe, start.config, classes, model.arch, order_seed, folder)
    began = time.perf_counter()
    own_seed = order_seed if ranks.rank == 0 else seed_of("rank", order_seed, ranks.rank)
    with isolated(own_seed, device), _deterministic(device):
        module = start.module.to(device)
        trainable = {key for key, p in architectures.on_meta(model).named_parameters() if p.requires_grad}
        for key, parameter in module.named_parameters():
            parameter.requires_grad_(key in trainable)
        called = wrap(module) if wrap else module
        told = progress or Silent()
        alone = why_alone(module, called, len(images) // updates_of(len(images), recipe), device, ranks)
        team = ALONE if alone else ranks
        if alone:
            told.say(f"{name or model.arch}: {alone}, so the first of {ranks.size} processes trains it alone")
        told.begin(f"train {name or model.arch}", recipe.epochs, "epochs")
        ended = float("nan"), float("nan")
        if team.size > 1 or ranks.rank == 0:
            with shared(called, device, team) as called, telling(_full(recipe, device)):
                ended = _fit(module, called, images, recipe, order_seed, device, told, team)
        if alone:
            state = {key: value.cpu() for key, value in module.state_dict().items()}
            ended, state = ranks.told((ended, state))
            module.load_state_dict(state)
        loss, accuracy = ended
        told.end()
    stats = {
        "images": len(images),
        "classes": images.classes,
        "epochs": recipe.epochs,
        "train_loss": loss,
        "train_accuracy": accuracy,
        "seconds": round(time.perf_counter() - began, 1),
        "device": device.type,
        "processes": team.size,
    }
    detail = {"start": start.weights.origin, "start_sha256": start.weights.sha256, **stats}
    return Trained(models.finish(module, model, "trained", detail), stats)


def updates_of(images: int, recipe: Train) -> int:
    """Batches of an epoch."""
    assert recipe.data is not None
    return -(-images // recipe.data.batch)


def optimizer_of(module: nn.Module, recipe: Train) -> torch.optim.Optimizer:
    """The optimizer of a recipe, for a module's parameters."""
    found: torch.optim.Optimizer = create_optimizer_v2(
        module, opt=recipe.optimizer, lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    return found


def criterion_of(recipe: Train) -> nn.Module:
    """The loss of a recipe, of logits `[batch, class]` and labels `[batch]`."""
    return nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)


def descend(
    loss: torch.Tensor, module: nn.Module, optimizer: torch.optim.Optimizer, clip: float | None
) -> None:
    """Change a module's parameters once, by the gradient of a loss, its norm `clip` at most."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    if clip is not None:
        nn.utils.clip_grad_norm_(module.parameters(), clip)
    optimizer.step()


def _fit(
    module: nn.Module,
    called: nn.Module,
    images: Images,
    recipe: Train,
    seed: int,
    device: torch.device,
    progress: Progress,
    ranks: Ranks,
) -> tuple[float, float]:
    updates = updates_of(len(images), recipe)
    optimizer = optimizer_of(module, recipe)
    scheduler, _ = create_scheduler_v2(
        optimizer,
        num_epochs=recipe.epochs,
        decay_epochs=max(1, -(-recipe.epochs // 3)),
        warmup_epochs=recipe.warmup_epochs,
        warmup_lr=recipe.learning_rate / 100,
        step_on_epochs=False,
        updates_per_epoch=updates,
        **SCHEDULES[recipe.schedule],
    )
    criterion = criterion_of(recipe)
    module.train()
    called.train()
    mean_loss = accuracy = float("nan")
    for epoch in range(recipe.epochs):
        order = permutation(len(images), seed_of("order", seed, epoch))
        batches = [order[start::updates] for start in range(updates)]
        total = torch.zeros((), dtype=torch.float64)
        right = 0
        for index, (x, y) in enumerate(images.epoch(epoch, [ranks.mine(rows) for rows in batches])):
            x, y = x.to(device), y.to(device)
            scheduler.step_update(epoch * updates + index)
            before = chance(device) if epoch == index == 0 and ranks.size > 1 else None
            logits = called(x)
            if before is not None and not torch.equal(before, chance(device)):
                progress.say(f"dropout: {ranks.size} processes draw other masks than one would")
            loss = criterion(logits, y)
            if not torch.isfinite(loss):
                raise StudyError(_diverged(epoch, index, float(loss.detach())))
            share = len(y) * ranks.size / len(batches[index])
            descend(loss * share, module, optimizer, recipe.clip_grad)
            total += loss.detach().double().cpu() * len(y)
            right += int((logits.argmax(1) == y).sum())
        losses, rights = zip(*ranks.gathered((float(total), right)), strict=True)
        mean_loss, accuracy = sum(losses) / len(images), sum(rights) / len(images)
        progress.step(1, f"loss {mean_loss:.3f}, accuracy {accuracy:.3f}")
    return mean_loss, accuracy


@contextmanager
def _deterministic(device: torch.device) -> Iterator[None]:
    """On a GPU, choose algorithms that repeat; on the CPU they do."""
    if device.type != "cuda":
        yield
        return
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    try:
        torch.use_deterministic_algorithms(True, warn_only=True)
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])


def _full(recipe: Train, device: torch.device) -> Diagnostic:
    assert recipe.data is not None
    return Diagnostic(
        "VD409",
        f"out of memory on {device} in training with batches of {recipe.data.batch} images",
        help=("write a smaller `batch` below `train: {data: ...}`, or take a larger device",),
        about=(("train", "data", "batch"), ("train",)),
    )


def _diverged(epoch: int, batch: int, loss: float) -> Diagnostic:
    return Diagnostic(
        "VD503",
        f"training diverged: the loss is {loss} in epoch {epoch + 1}, batch {batch + 1}",
        label="diverged",
        help=("write a smaller `learning_rate`, `warmup_epochs: 5`, or `clip_grad: 1.0`",),
        about=(("train", "learning_rate"), ("train",)),
    )
