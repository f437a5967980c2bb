"""A model of a package: a function that returns a module, named in a study as `vitdsl_sample.nets:patch_mixer`."""

from torch import Tensor, nn


class PatchMixer(nn.Module):
    """Patches as tokens, residual units over their features, their mean, and logits."""

    def __init__(self, width: int, depth: int, patch: int, num_classes: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
            for _ in range(depth)
        )
        self.head = nn.Linear(width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits `[batch, class]` of images `[batch, 3, row, col]`."""
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        for block in self.blocks:
            tokens = tokens + block(tokens)
        logits: Tensor = self.head(tokens.mean(1))
        return logits


def patch_mixer(width: int = 16, depth: int = 2, patch: int = 8, num_classes: int = 10) -> PatchMixer:
    """The module with random weights; its parameters are the `options` of a study."""
    return PatchMixer(width, depth, patch, num_classes)
