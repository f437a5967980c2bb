"""The studies that are timed: two models at 224 pixels, and what is measured in each."""

HEAD = """\
vitdsl: 1
study: bench
data:
  noise: {{{source}, images: {images}, batch: {batch}}}
{more}
models:
  vit: {{arch: {vit}, weights: random}}
  res: {{arch: {res}, weights: random}}
layers:
  x: {{of: vit, at: "blocks.*"}}
  y: {{of: res, at: "layer*.*"}}
"""
PAIR = {"vit": "vit_small_patch16_224", "res": "resnet50"}
MINI = {
    "vit": "vit_tiny_patch16_224, options: {img_size: 32, patch_size: 8, embed_dim: 64, num_heads: 4}",
    "res": "resnet18, input_size: 32",
}
"""For what must be run often or on many images; options stand behind the architecture."""
SMALL = {"vit": "vit_tiny_patch16_224", "res": "resnet18"}

CKA = "metrics: {across: {kind: cka, x: x, y: y}}\n"
PANEL = (
    "metrics:\n"
    "  within_x: {kind: cka, x: x}\n  within_y: {kind: cka, x: y}\n  across: {kind: cka, x: x, y: y}\n"
    "  distance: {kind: attention_distance, of: vit}\n  entropy: {kind: attention_entropy, of: vit}\n"
    "  ratio: {kind: skip_ratio, of: [vit, res]}\n  accuracy: {kind: accuracy, of: [vit, res]}\n"
    "  norms: {kind: token_norms, x: x}\n"
)
SWEEP_VIT = (
    'ablations: {cut: {kind: remove_skip, of: vit, at: "blocks.*.attn", each: true}}\n'
    "metrics:\n  accuracy: {kind: accuracy, of: vit}\n  drift: {kind: cka, x: x, against: baseline}\n"
)
SWEEP_RES = (
    'ablations: {cut: {kind: remove_skip, of: res, at: "layer*.*", each: true}}\n'
    "metrics:\n  accuracy: {kind: accuracy, of: res}\n  drift: {kind: cka, x: y, against: baseline}\n"
)
LOCALISATION = "metrics: {where: {kind: localisation, x: x}}\n"
PROBE = (
    '  m: {of: vit, at: "blocks.*", tokens: mean}\n'
    "metrics: {probe: {kind: linear_probe, x: m, data: noise, train: learned}}\n"
)
FIELD = "metrics: {field: {kind: receptive_field, x: x, channels: 4}}\n"
LAST_FIELD = "  z: {of: vit, at: blocks.11}\nmetrics: {field: {kind: receptive_field, x: z, channels: 1}}\n"
DISTANCE = "metrics: {distance: {kind: attention_distance, of: vit}}\n"


def text(
    metrics: str, source: str, images: int, batch: int, models: dict[str, str], learned: str = ""
) -> str:
    """A study.

    Args:
        metrics: What follows the layers, one of the texts above.
        source: Where images come from, as fields of a data entry.
        images: How many.
        batch: In batches of how many.
        models: `vit` and `res`, architectures.
        learned: Where the images come from that a probe is fitted on; empty without one.
    """
    more = (
        f"  learned: {{{source}, images: {images}, batch: {batch}, seed: 1}}" if "learned" in metrics else ""
    )
    return HEAD.format(source=source, images=images, batch=batch, more=more, **models) + metrics


def noise(size: int = 224, classes: int = 1000) -> str:
    """Noise images, which cost next to nothing to make."""
    return f"source: noise, size: {size}, classes: {classes}"
