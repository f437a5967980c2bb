"""Training: a model's weights from its `train` entry, from scratch or onwards from what it starts from.

Owns: which images are trained on, augmentation, the loop, and that the same recipe gives the same weights
on the same machine, bit for bit on the CPU. Does not own: where trained weights are kept (`store`), what an
ablation does during training (the caller wraps the model), how progress is shown.

In each epoch every image is seen once, in an order drawn from the seed, in batches of `batch` images or one
fewer (the images are dealt evenly, so that no short batch upsets a batch norm). The learning rate changes
after each batch. `step` divides it by ten after each third of the epochs; `cosine` and `linear` end at
zero.
"""

import difflib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL.Image import Image
from timm.data import create_transform
from timm.optim import create_optimizer_v2, list_optimizers
from timm.scheduler import create_scheduler_v2
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import Compose

from vitdsl.dsl.diagnostics import Diagnostic, StudyError, VitdslError
from vitdsl.dsl.study import Augment, Model, Train
from vitdsl.runtime.data import stream
from vitdsl.runtime.data.sources._base import Source
from vitdsl.runtime.data.stream import Failure
from vitdsl.runtime.models import architectures
from vitdsl.runtime.models import loading as models
from vitdsl.runtime.models.loading import LoadedModel, Preprocessing
from vitdsl.runtime.randomness import isolated, permutation, seed_of

CACHE_BYTES = 1 << 30
"""Images that are the same in every epoch stay in memory up to here."""

SCHEDULES: dict[str, dict[str, Any]] = {
    "cosine": {"sched": "cosine"},
    "linear": {"sched": "poly", "decay_rate": 1.0},
    "step": {"sched": "step", "decay_rate": 0.1},
    "constant": {"sched": "step", "decay_rate": 1.0},
}


class Progress(Protocol):
    """Hears of each epoch."""

    def on_epoch(self, epoch: int, epochs: int, loss: float, accuracy: float) -> None:
        """After epoch `epoch` (from 1): mean loss and share right over its images, while they were learnt."""


@dataclass(frozen=True)
class Trained:
    """A trained model and how the last epoch went.

    Attributes:
        model: The model, ready for use; its weights say `trained`.
        stats: Ready for JSON: images, classes, epochs, loss and accuracy of the last epoch, seconds.
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
) -> Trained:
    """Train a model as its `train` entry says.

    Args:
        model: A model with `train`, its recipe filled in.
        seed: The study's, where the entry has none.
        folder: Where relative paths start.
        device: Where to train; None is the CPU.
        wrap: Gives the model that is called in training, with the same parameters and buffers: one under an
            ablation.
        progress: Hears of each epoch.

    Raises:
        StudyError: No data (VD253), an unknown optimizer (VD251) or policy (VD252), labels that do not fit
            (VD241, VD404), a loss that is not a number (VD503).
        EnvironmentProblem: As `models.load` and `stream.open_source`.
    """
    assert model.train is not None
    recipe = check(model)
    device = device or torch.device("cpu")
    order_seed = recipe.seed if recipe.seed is not None else seed
    start = models.load(model, seed=seed, folder=folder)
    images = _open(recipe, start, model.arch, order_seed, folder)
    began = time.perf_counter()
    with isolated(order_seed, device), _deterministic(device):
        module = start.module.to(device)
        trainable = {name for name, p in architectures.on_meta(model).named_parameters() if p.requires_grad}
        for name, parameter in module.named_parameters():
            parameter.requires_grad_(name in trainable)
        called = wrap(module) if wrap else module
        loss, accuracy = _fit(module, called, images, recipe, order_seed, device, progress)
    stats = {
        "images": len(images),
        "classes": images.classes,
        "epochs": recipe.epochs,
        "train_loss": loss,
        "train_accuracy": accuracy,
        "seconds": round(time.perf_counter() - began, 1),
        "device": device.type,
    }
    detail = {"start": start.weights.source, "start_sha256": start.weights.sha256, **stats}
    return Trained(models.finish(module, model, "trained", detail), stats)


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
            )
        )
    known = [str(name) for name in list_optimizers()]
    if recipe.optimizer not in known:
        near = difflib.get_close_matches(recipe.optimizer, known, n=1)
        raise StudyError(
            Diagnostic(
                "VD251",
                f"timm has no optimizer `{recipe.optimizer}`",
                help=(f"did you mean `{near[0]}`?" if near else f"optimizers: {', '.join(known)}",),
            )
        )
    try:
        _augmented(
            recipe.augment, Preprocessing((3, 32, 32), (0.5,) * 3, (0.5,) * 3, "bicubic", 1.0, "center")
        )
    except (AssertionError, ValueError, KeyError, TypeError) as error:
        raise StudyError(
            Diagnostic(
                "VD252",
                f"timm does not take `augment` as it stands: {_why(recipe.augment, error)}",
                help=("write `auto_augment` as timm does, such as `rand-m9-mstd0.5-inc1`",),
            )
        ) from error
    return recipe


def _why(augment: Augment, error: Exception) -> str:
    policy = augment.auto_augment
    return f"there is no policy `{policy}`" if policy else str(error) or type(error).__name__


def chosen_rows(labels: list[int], fraction: float, seed: int) -> list[int]:
    """Rows of a share of the images: of each class the same share, at least one, the first of a shuffle.

    Args:
        labels: Of all images.
        fraction: The share, in 0..1; a smaller one takes a subset of a larger one's.
        seed: Of the shuffle.
    """
    if fraction == 1:
        return list(range(len(labels)))
    shuffled = permutation(len(labels), seed_of("fraction", seed))
    kept: list[int] = []
    for label in sorted(set(labels)):
        members = [row for row in shuffled if labels[row] == label]
        kept += members[: max(1, round(fraction * len(members)))]
    return sorted(kept)


class _Images(Dataset[tuple[Tensor, int] | Failure]):
    """The training images as the model sees them; a key is an epoch and a row: what chance depends on."""

    def __init__(self, source: Source, rows: list[int], look: Callable[[Image], Tensor], seed: int | None):
        self.source, self.rows, self.look, self.seed = source, rows, look, seed
        self.classes = len(source.classes or ())
        self.workers = stream.workers_for(source, len(rows))
        self.kept: tuple[Tensor, Tensor] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, int] | Failure:
        epoch, row = key
        try:
            item = self.source.load(self.rows[row])
        except VitdslError as error:
            return Failure.of(error)
        assert item.label is not None
        if self.seed is None:
            return self.look(item.image), item.label
        with isolated(seed_of("augment", self.seed, epoch, row)):
            return self.look(item.image), item.label

    def epoch(self, epoch: int, batches: list[list[int]]) -> Iterator[tuple[Tensor, Tensor]]:
        """Images [batch, 3, height, width] and labels [batch] of some rows."""
        if self.kept is None and self.seed is None:
            self._keep()
        if self.kept is not None:
            for rows in batches:
                yield self.kept[0][rows], self.kept[1][rows]
        else:
            yield from self._read([[(epoch, row) for row in rows] for rows in batches])

    def _keep(self) -> None:
        (first, _) = next(self._read([[(0, 0)]]))
        if first.numel() * first.element_size() * len(self) <= CACHE_BYTES:
            pairs = list(self._read([[(0, row)] for row in range(len(self))]))
            self.kept = torch.cat([x for x, _ in pairs]), torch.cat([y for _, y in pairs])

    def _read(self, keys: list[list[tuple[int, int]]]) -> Iterator[tuple[Tensor, Tensor]]:
        loader = DataLoader(
            self,
            batch_sampler=keys,
            collate_fn=_collate,
            num_workers=self.workers if len(keys) > 1 else 0,
            generator=torch.Generator(),
        )
        for batch in loader:
            if isinstance(batch, Failure):
                batch.throw()
            yield batch


def _collate(items: list[tuple[Tensor, int] | Failure]) -> tuple[Tensor, Tensor] | Failure:
    pairs = []
    for item in items:
        if isinstance(item, Failure):
            return item
        pairs.append(item)
    return torch.stack([image for image, _ in pairs]), torch.tensor([label for _, label in pairs])


def _open(recipe: Train, start: LoadedModel, name: str, seed: int, folder: Path) -> _Images:
    assert recipe.data is not None
    opened = stream.open_stream(recipe.data, seed=seed, folder=folder, transforms={name: start.config})
    stream.check_labels(opened, int(start.module.num_classes), name)  # type: ignore[arg-type]
    rows = sorted(opened.order)
    labels = [int(opened.source.label(row) or 0) for row in rows]
    rows = [rows[i] for i in chosen_rows(labels, recipe.fraction, seed)]
    plain = recipe.augment == Augment()
    look = models.transform(start.config) if plain else _augmented(recipe.augment, start.config)
    return _Images(opened.source, rows, look, None if plain else seed)


def _augmented(augment: Augment, config: Preprocessing) -> Callable[[Image], Tensor]:
    """The training transform; without a random crop, the crop of evaluation takes its place."""
    first, second, last = create_transform(
        input_size=config.input_size,
        is_training=True,
        scale=augment.scale,
        ratio=augment.ratio,
        hflip=augment.hflip,
        vflip=augment.vflip,
        color_jitter=augment.color_jitter or None,
        auto_augment=augment.auto_augment,
        interpolation=config.interpolation,
        mean=config.mean,
        std=config.std,
        re_prob=augment.erase,
        separate=True,
    )
    if augment.scale == (1.0, 1.0) and augment.ratio == (1.0, 1.0):
        steps = models.transform(config).transforms  # type: ignore[attr-defined]
        first = Compose([*steps[:-2], *first.transforms[1:]])
    made: Callable[[Image], Tensor] = Compose([first, second, last])
    return made


def _fit(
    module: nn.Module,
    called: nn.Module,
    images: _Images,
    recipe: Train,
    seed: int,
    device: torch.device,
    progress: Progress | None,
) -> tuple[float, float]:
    assert recipe.data is not None
    updates = -(-len(images) // recipe.data.batch)
    optimizer = create_optimizer_v2(
        module, opt=recipe.optimizer, lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
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
    criterion = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
    module.train()
    called.train()
    mean_loss = accuracy = float("nan")
    for epoch in range(recipe.epochs):
        order = permutation(len(images), seed_of("order", seed, epoch))
        batches = [order[start::updates] for start in range(updates)]
        total = torch.zeros((), dtype=torch.float64)
        right = 0
        for index, (x, y) in enumerate(images.epoch(epoch, batches)):
            x, y = x.to(device), y.to(device)
            scheduler.step_update(epoch * updates + index)
            logits = called(x)
            loss = criterion(logits, y)
            if not torch.isfinite(loss):
                raise StudyError(_diverged(epoch, index, float(loss.detach())))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            if recipe.clip_grad is not None:
                nn.utils.clip_grad_norm_(module.parameters(), recipe.clip_grad)
            optimizer.step()
            total += loss.detach().double().cpu() * len(y)
            right += int((logits.argmax(1) == y).sum())
        mean_loss, accuracy = float(total) / len(images), right / len(images)
        if progress is not None:
            progress.on_epoch(epoch + 1, recipe.epochs, mean_loss, accuracy)
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


def _diverged(epoch: int, batch: int, loss: float) -> Diagnostic:
    return Diagnostic(
        "VD503",
        f"training diverged: the loss is {loss} in epoch {epoch + 1}, batch {batch + 1}",
        help=("write a smaller `learning_rate`, `warmup_epochs: 5`, or `clip_grad: 1.0`",),
    )
