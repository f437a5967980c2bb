"""Training: repeatable, honest about what it took, clear about what is wrong."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from vitdsl_sample import nets

from studies import TINY
from vitdsl.dsl.diagnostics import EnvironmentProblem, StudyError, VitdslError
from vitdsl.dsl.study import Model
from vitdsl.runtime.data.decoding import Failure
from vitdsl.runtime.models import plugins
from vitdsl.runtime.models.loading import start_seed
from vitdsl.runtime.models.preprocessing import Preprocessing, training_transform, transform
from vitdsl.runtime.progress import Silent
from vitdsl.runtime.train import loop as train
from vitdsl.runtime.train.images import chosen_rows

OPTIONS = {**TINY, "num_heads": 2}
DATA = {"source": "digits", "split": "train", "images": 96, "batch": 32}


def model(
    options: dict[str, Any] | None = None, start: Any = None, seed: int | None = None, **recipe: Any
) -> Model:
    entry = {"data": DATA, "epochs": 2, "seed": 0, **recipe}
    return Model.model_validate(
        {"arch": "vit_tiny_patch16_224", "options": {**OPTIONS, **(options or {})}, "train": entry}
        | ({"weights": start} if start else {})
        | ({"seed": seed} if seed is not None else {})
    )


def trained(wrap: Any = None, progress: Any = None, **fields: Any) -> train.Trained:
    return train.train(model(**fields), seed=0, folder=Path(), wrap=wrap, progress=progress)


def sha(**fields: Any) -> str:
    return trained(**fields).model.weights.sha256


def test_the_same_recipe_gives_the_same_weights() -> None:
    noisy = {
        "hflip": 0.5,
        "color_jitter": 0.3,
        "erase": 0.2,
        "scale": [0.7, 1.0],
        "auto_augment": "rand-m5-inc1",
    }
    torch.manual_seed(1)
    first = sha(augment=noisy, options={"drop_rate": 0.1})
    torch.manual_seed(2)
    np.random.seed(5)
    assert sha(augment=noisy, options={"drop_rate": 0.1}) == first
    assert sha(augment={**noisy, "hflip": 0.4}, options={"drop_rate": 0.1}) != first


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1}, {"learning_rate": 0.002}, {"epochs": 3}, {"weight_decay": 0.5}, {"optimizer": "sgd"},
        {"schedule": "constant"}, {"schedule": "linear"}, {"schedule": "step"}, {"warmup_epochs": 1},
        {"label_smoothing": 0.1}, {"clip_grad": 0.01}, {"fraction": 0.5}, {"augment": {"hflip": 1.0}},
        {"data": {**DATA, "batch": 16}},
    ],
)  # fmt: skip
def test_every_field_counts(change: dict[str, Any]) -> None:
    assert sha(**change) != REFERENCE()


def REFERENCE(_kept: list[str] = []) -> str:  # noqa: B006  (kept on purpose)
    if not _kept:
        _kept.append(sha())
    return _kept[0]


def test_training_disturbs_no_global_state() -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index]
    trained()
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()  # type: ignore[index]


def test_it_learns_and_says_so() -> None:
    stages: list[tuple[str, int, str]] = []
    notes: list[tuple[int, str]] = []

    class Heard(Silent):
        def begin(self, what: str, total: int, unit: str = "images") -> None:
            stages.append((what, total, unit))

        def step(self, count: int = 1, note: str = "") -> None:
            notes.append((count, note))

        def end(self) -> None:
            stages.append(("end", len(notes), ""))

    done = trained(progress=Heard(), epochs=6, learning_rate=0.003, data={**DATA, "images": 256})
    assert stages == [("train vit_tiny_patch16_224", 6, "epochs"), ("end", 6, "")]
    assert [count for count, _ in notes] == [1] * 6
    losses = [float(re.fullmatch(r"loss ([\d.]+), accuracy [\d.]+", note)[1]) for _, note in notes]  # type: ignore[index]
    assert losses[-1] < losses[0] - 0.05
    last = f"loss {done.stats['train_loss']:.3f}, accuracy {done.stats['train_accuracy']:.3f}"
    assert notes[-1] == (1, last) and done.stats["images"] == 256
    module = done.model.module
    assert not module.training and not any(p.requires_grad for p in module.parameters())
    assert done.model.weights.origin == "trained"


def test_the_wrapped_model_is_the_one_that_is_trained() -> None:
    calls = Counter[str]()

    class Halved(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: Tensor) -> Tensor:
            calls["forward"] += 1
            return self.inner(x) * 0.5  # type: ignore[no-any-return]

    assert trained(wrap=Halved).model.weights.sha256 != REFERENCE()
    assert calls["forward"] == 6


def test_fine_tuning_starts_from_the_weights(tmp_path: Path) -> None:
    start = train.train(model(epochs=1), seed=0, folder=Path()).model
    torch.save(start.module.state_dict(), tmp_path / "start.pth")
    tuned = train.train(
        model(start={"file": "start.pth"}, learning_rate=1e-9, epochs=1), seed=0, folder=tmp_path
    )
    assert tuned.model.weights.detail["start"] == "file"
    assert tuned.model.weights.detail["start_sha256"] == start.weights.sha256
    for before, after in zip(start.module.parameters(), tuned.model.module.parameters(), strict=True):
        assert torch.allclose(before, after, atol=1e-6)


def test_fractions_are_nested_and_by_class() -> None:
    labels = [i % 7 for i in range(350)] + [7]
    tenth, half = (chosen_rows(labels, fraction, 3) for fraction in (0.1, 0.5))
    assert set(tenth) < set(half) and tenth == sorted(tenth)
    assert Counter(labels[i] for i in tenth) == {**dict.fromkeys(range(7), 5), 7: 1}
    assert chosen_rows(labels, 1.0, 3) == list(range(351))
    assert chosen_rows(labels, 0.1, 4) != tenth


def test_without_a_random_crop_the_crop_is_evaluations() -> None:
    flip = model(augment={"hflip": 1.0}).train
    assert flip is not None
    from PIL import Image

    config = Preprocessing((3, 32, 32), (0.5,) * 3, (0.5,) * 3, "bicubic", 0.9, "center")
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8))
    assert torch.equal(training_transform(flip.augment, config)(noise).flip(2), transform(config)(noise))


def test_seeds_have_an_order_of_precedence() -> None:
    assert start_seed(model(seed=None, **{}), 9) == 0
    assert start_seed(model().model_copy(update={"seed": 4}), 9) == 4
    assert start_seed(Model(arch="resnet18", weights="random"), 9) == 9


@pytest.mark.parametrize(
    ("fields", "code", "text"),
    [
        ({"data": None}, "VD253", "write `data:"),
        ({"optimizer": "adamww"}, "VD251", "did you mean `adamw`"),
        ({"augment": {"auto_augment": "nonsense"}}, "VD252", "rand-m9"),
        ({"options": {"num_classes": 7}}, "VD404", "num_classes: 10"),
        ({"data": {"source": "noise", "total": 8, "size": 32}}, "VD241", "folder"),
        ({"learning_rate": 1e30, "optimizer": "sgd"}, "VD503", "smaller `learning_rate`"),
    ],
)
def test_what_cannot_be_trained(fields: dict[str, Any], code: str, text: str) -> None:
    with pytest.raises(StudyError, match=code) as caught:
        trained(**fields)
    assert any(text in line for line in caught.value.diagnostics[0].help)


def test_an_error_survives_its_way_out_of_a_process(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="VD401") as caught:
        trained(data={"source": "folder", "path": str(tmp_path / "nowhere")})
    assert isinstance(caught.value, VitdslError)
    with pytest.raises(EnvironmentProblem) as again:
        Failure.of(caught.value).throw()
    assert again.value.diagnostics == caught.value.diagnostics


@pytest.mark.parametrize("classes", [10, 4])
def test_a_packages_model_need_not_say_how_many_classes_it_has(
    monkeypatch: pytest.MonkeyPatch, classes: int
) -> None:
    """Models of timm have `num_classes`; of others the width of what they give is taken."""
    monkeypatch.setattr(plugins, "function", lambda arch: nets.patch_mixer)
    fields = {"arch": "vitdsl_sample.nets:patch_mixer", "options": {"num_classes": classes}, "input_size": 32}
    entry = Model.model_validate(fields | {"train": {"data": DATA, "epochs": 1, "seed": 0}})
    assert not hasattr(nets.patch_mixer(), "num_classes")
    if classes == 10:
        assert train.train(entry, seed=0, folder=Path()).stats["classes"] == 10
    else:
        with pytest.raises(VitdslError, match="VD4"):
            train.train(entry, seed=0, folder=Path())
