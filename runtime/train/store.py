"""Trained weights, kept by the hash of the recipe that made them.

Owns: what makes two trainings the same (`resolved_recipe`), where their weights lie, and training what is not there.
Does not own: the training itself (`loop`), what a file of weights says and how it is checked (`weights`).

A recipe is everything that the weights depend on: architecture, options, what it starts from, seed,
training images, every training field, the ablations that hold, and the version of the trainer. The name of
a recipe file does not count, nor does the machine: stored weights are used wherever the hash is the same.
Images in a folder count by its path; after changing them, train with `--force`.

Weights are looked for in the user's cache (`$VITDSL_CACHE/weights`, else `$XDG_CACHE_HOME/vitdsl/weights`,
else `~/.cache/vitdsl/weights`), then among those that come with the program. A file is named by the first
16 digits of the hash; what it says is checked at every load.
"""

import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from vitdsl.dsl.diagnostics import Diagnostic, EnvironmentProblem
from vitdsl.dsl.loaded import Loaded
from vitdsl.dsl.source import placing
from vitdsl.dsl.study import Model
from vitdsl.dsl.sweeps import variants
from vitdsl.runtime.models import loading as models
from vitdsl.runtime.models import weight_files
from vitdsl.runtime.models.loading import LoadedModel
from vitdsl.runtime.models.preprocessing import said
from vitdsl.runtime.models.recipe import check
from vitdsl.runtime.paths import user_cache
from vitdsl.runtime.progress import Progress
from vitdsl.runtime.ranks import ALONE, Ranks
from vitdsl.runtime.results.writing import check_writable
from vitdsl.runtime.train import loop as train
from vitdsl.runtime.train.outlook import Expected, Outlook
from vitdsl.runtime.train.recipe_images import images_that_count
from vitdsl.runtime.train.weights import content_hash, naming_the_store, read, rounded, save

TRAINER_VERSION = 1
"""Raised when the same recipe would give other weights."""

Wrap = Callable[[nn.Module], nn.Module]


@dataclass(frozen=True)
class Stored:
    """What training a model of a study left behind.

    Attributes:
        name: The model's name in the study.
        key: The hash of its recipe.
        path: The file of its weights.
        stats: How the training ended: loss and accuracy of the last epoch, images, epochs.
        trained: Whether it was trained now, not found.
    """

    name: str
    key: str
    path: Path
    stats: dict[str, Any]
    trained: bool


class _Wanted(NamedTuple):
    """A model of a study that is to have trained weights: `trained` where they are not there yet."""

    entry: str
    name: str
    model: Model
    without: Sequence[Mapping[str, Any]]
    key: str
    trained: bool


def resolved_recipe(
    model: Model, *, seed: int, folder: Path, without: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    """Everything that a trained model's weights depend on, ready for JSON.

    Args:
        model: A model with `train`, its recipe filled in.
        seed: The study's, where the training has none.
        folder: Where relative paths start.
        without: The resolved ablations that hold during training.
    """
    entry = check(model)
    assert entry.data is not None
    fields = entry.model_dump(mode="json", exclude={"recipe", "data", "without", "seed"}, exclude_none=True)
    weights: Any = model.weights or "random"
    if not isinstance(weights, str):
        weights = weight_files.identity(weights, folder)
    return {
        "arch": model.arch,
        "options": model.options,
        "input_size": model.input_size,
        **({"preprocess": images} if (images := said(model)) else {}),
        "weights": weights,
        "start_seed": models.start_seed(model, seed),
        "seed": entry.seed if entry.seed is not None else seed,
        "data": images_that_count(entry.data, folder),
        "train": fields,
        "without": [dict(ablation) for ablation in without],
        "trainer": TRAINER_VERSION,
    }


def recipe_key(
    model: Model, *, seed: int, folder: Path = Path(), without: Sequence[Mapping[str, Any]] = ()
) -> str:
    """The SHA-256 of a trained model's recipe, 64 hexadecimal digits."""
    return content_hash(resolved_recipe(model, seed=seed, folder=folder, without=without))


def user_store() -> Path:
    """The folder of weights that were trained on this machine."""
    return user_cache() / "weights"


def shipped_store() -> Path:
    """The folder of weights that come with the program."""
    return Path(str(files("vitdsl.specs"))) / "zoo" / "weights"


def find(key: str, store: Path | None = None) -> Path | None:
    """The file of a recipe's weights, in one store or in the user's and the shipped one, or None."""
    for folder in (store,) if store is not None else (user_store(), shipped_store()):
        path = folder / f"{key[:16]}.safetensors"
        if path.is_file():
            return path
    return None


def obtain(
    model: Model,
    *,
    seed: int,
    folder: Path,
    progress: Progress | None = None,
    name: str = "",
    device: torch.device | None = None,
    force: bool = False,
    store: Path | None = None,
    wrap: Wrap | None = None,
    without: Sequence[Mapping[str, Any]] = (),
    ranks: Ranks = ALONE,
    half: bool = False,
) -> LoadedModel:
    """A model with its weights; one with `train` is taken from the store, or trained and stored.

    Several ranks call this alike: the one that leads looks and stores, all train, all read what was stored.

    Args:
        model: What the study names.
        seed: The study's.
        folder: Where relative paths start.
        progress: Told of the epochs.
        name: What progress calls the model.
        device: Where to train; None is the CPU.
        force: Train even where weights are stored.
        store: The only folder to look in and to write to; None takes the user's, and looks in the shipped
            one.
        wrap: See `train.train`.
        without: The resolved ablations that hold during training, for the hash.
        ranks: Which of several processes this is; a shard trains alone.
        half: Round what is trained now to float16, for a file of half the size.

    Raises:
        StudyError: As `models.load` and `train.train`.
        EnvironmentProblem: As those; stored weights are damaged (VD412), or cannot be written or seen (VD407).
    """
    team = ranks.team
    if model.train is None:
        with team.leader_first():
            return models.load(model, seed=seed, folder=folder)
    content = resolved_recipe(model, seed=seed, folder=folder, without=without)
    path = team.told(None if force else find(content_hash(content), store))
    if path is None:
        if team.leads:
            with naming_the_store():
                check_writable((store or user_store()) / "weights")
        done = train.train(
            model,
            seed=seed,
            folder=folder,
            device=device,
            wrap=wrap,
            progress=progress,
            name=name,
            ranks=team,
        )
        done = rounded(done, model) if half else done
        path = team.told(_kept(done, content, store or user_store(), progress) if team.leads else None)
    assert path is not None
    if not all(team.gathered(path.is_file())):
        raise EnvironmentProblem(
            Diagnostic(
                "VD407",
                f"not every process sees the weights that the first of them has: `{path}`",
                help=("name a folder that all of them see in the environment variable `VITDSL_CACHE`",),
            )
        )
    return read(path, model, content_hash(content))


def _kept(done: Any, content: dict[str, Any], store: Path, progress: Progress | None) -> Path:
    """Store trained weights; where the store cannot be written any more, in a new folder for temporary files."""
    try:
        return save(done, content, store)
    except EnvironmentProblem as problem:
        path = save(done, content, Path(tempfile.mkdtemp(prefix="vitdsl-weights-")))
        if progress is not None:
            progress.say(f"{problem.diagnostics[0].message}; the trained weights are kept in {path}")
        return path


def train_study(
    loaded: Loaded,
    *,
    names: Collection[str] = (),
    force: bool = False,
    store: Path | None = None,
    progress: Progress | None = None,
    device: torch.device | None = None,
    wraps: Mapping[str, Wrap] | None = None,
    without: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    ranks: Ranks = ALONE,
    half: bool = False,
    expected: Expected | None = None,
) -> list[Stored]:
    """Train the models of a study that have `train`, or find them trained.

    Args:
        loaded: The study.
        names: Models to train; empty takes all that are trained.
        force: Train even where weights are stored.
        store: See `obtain`.
        progress: Told of the epochs of each model.
        device: Where to train; None is the CPU.
        wraps: By model: see `train.train`.
        without: By model: see `resolved_recipe`.
        ranks: Which of several processes this is.
        half: See `obtain`.
        expected: Seconds that training a model takes, by its name, None where that is not known.
    """
    seed, wanted = loaded.study.seed, []
    for entry_name, entry in loaded.study.models.items():
        for variant in variants(entry_name, entry):
            model, name = variant.entry, variant.name
            if model.train is None or (names and not {entry_name, name} & set(names)):
                continue
            held = (without or {}).get(name, ())
            key = recipe_key(model, seed=seed, folder=loaded.folder, without=held)
            known = None if force else find(key, store)
            wanted.append(_Wanted(entry_name, name, model, held, key, trained=known is None))
    outlook = Outlook({one.name: one.model for one in wanted if one.trained}, progress, expected)
    found = []
    for one in wanted:
        with placing(loaded.source, ("models", one.entry)):
            ready = obtain(
                one.model,
                seed=seed,
                folder=loaded.folder,
                progress=progress,
                name=one.name,
                device=device,
                force=force,
                store=store,
                wrap=(wraps or {}).get(one.name),
                without=one.without,
                ranks=ranks,
                half=half,
            )
        if one.trained:
            outlook.trained()
        detail = ready.weights.detail
        found.append(Stored(one.name, one.key, Path(detail["file"]), detail["training"], one.trained))
    return found
