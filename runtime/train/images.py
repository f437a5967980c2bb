"""The images that a model is trained on: which, as it sees them, epoch by epoch.

Owns the choice of a fraction, and what chance does to an image. Does not own: opening and decoding (`data`), the
transform (`models/preprocessing`), the order within an epoch (`loop`).
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from PIL.Image import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from vitdsl.dsl.diagnostics import VitdslError
from vitdsl.dsl.study import Augment, Train
from vitdsl.runtime.data.decoding import Failure, workers_for
from vitdsl.runtime.data.labels import check_labels
from vitdsl.runtime.data.sources._base import Source
from vitdsl.runtime.data.stream import open_stream
from vitdsl.runtime.models.preprocessing import Preprocessing, training_transform, transform
from vitdsl.runtime.randomness import isolated, permutation, seed_of

CACHE_BYTES = 1 << 30
"""Images that are the same in every epoch stay in memory up to here."""


class Images(Dataset[tuple[Tensor, int] | Failure]):
    """The training images as the model sees them; a key is an epoch and a row: what chance depends on."""

    def __init__(self, source: Source, rows: list[int], look: Callable[[Image], Tensor], seed: int | None):
        self.source, self.rows, self.look, self.seed = source, rows, look, seed
        self.classes = len(source.classes or ())
        self.workers = workers_for(source, len(rows))
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
            (first, _) = next(self._read([[(0, 0)]]))
            if self.stay(first.numel()):
                pairs = list(self._read([[(0, row)] for row in range(len(self))]))
                self.kept = torch.cat([x for x, _ in pairs]), torch.cat([y for _, y in pairs])
        if self.kept is not None:
            for rows in batches:
                yield self.kept[0][rows], self.kept[1][rows]
        else:
            yield from self._read([[(epoch, row) for row in rows] for rows in batches])

    def stay(self, numbers: int) -> bool:
        """Whether images of so many numbers are read once and stay in memory."""
        return self.seed is None and numbers * torch.float32.itemsize * len(self) <= CACHE_BYTES

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


def open_images(
    recipe: Train, config: Preprocessing, classes: int, name: str, seed: int, folder: Path
) -> Images:
    """The images that a recipe trains a model on.

    Args:
        recipe: The recipe, complete.
        config: The model's preprocessing.
        classes: Of its head.
        name: The model's name, for messages.
        seed: Of the order, of the choice of a fraction and of augmentation.
        folder: Where relative paths start.

    Raises:
        StudyError: Labels that do not fit (VD241, VD404).
        EnvironmentProblem: As `stream.open_stream`.
    """
    assert recipe.data is not None
    try:
        opened = open_stream(recipe.data, seed=seed, folder=folder, transforms={name: config})
    except VitdslError as error:
        raise error.inside("train", "data") from error.__cause__
    check_labels(opened, classes, name, needed_by=f"training `{name}`", leave_out="`train:`")
    rows = sorted(opened.order)
    labels = [int(opened.source.label(row) or 0) for row in rows]
    rows = [rows[i] for i in chosen_rows(labels, recipe.fraction, seed)]
    plain = recipe.augment == Augment()
    look = transform(config) if plain else training_transform(recipe.augment, config)
    return Images(opened.source, rows, look, None if plain else seed)


def classes_of(module: nn.Module, config: Preprocessing) -> int:
    """How many classes a model tells apart: as it says, as those of timm do, or the width of what it gives."""
    if isinstance(said := getattr(module, "num_classes", None), int):
        return said
    with torch.inference_mode():
        return int(module(torch.zeros(1, *config.input_size)).shape[-1])


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
