"""Every ablation obeys the laws, on models with and without tokens."""

import pytest

from studies import TINY_RESNET, changed
from vitdsl import testing
from vitdsl.dsl.study import Model
from vitdsl.runtime.ablations._base import Ablation
from vitdsl.runtime.ablations.mean_ablate import MeanAblate
from vitdsl.runtime.ablations.remove_branch import RemoveBranch
from vitdsl.runtime.ablations.remove_skip import RemoveSkip

SMALL = {
    "resnet": Model(**changed(TINY_RESNET, {"num_classes": 5})),
    "swin": Model(
        arch="swin_tiny_patch4_window7_224",
        options={"img_size": 56, "depths": (2, 2), "embed_dim": 24, "num_heads": (2, 4)},
        weights="random",
    ),
}


@pytest.mark.parametrize("model", list(SMALL))
@pytest.mark.parametrize("kind", [RemoveSkip, RemoveBranch, MeanAblate])
def test_laws(kind: type[Ablation], model: str) -> None:
    testing.check_ablation(kind(kind.Params()), SMALL[model])
