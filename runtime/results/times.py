"""How long the parts of a run took: what its timings are called, and their sums. Free of torch.

Does not own who measures them (`vitdsl.runtime.run`).
"""

from collections.abc import Mapping

MODELS = "models"
KEYS, PASS, COMPILE, ESTIMATES = "keys of images", "pass over ", "compile for ", "estimates of "


def parts(timings: Mapping[str, float]) -> dict[str, float]:
    """Seconds by part, those that are there: models, images, estimates.

    Args:
        timings: Seconds of each stage, as a manifest has them; a pass contains its compiling.
    """
    sums = {
        "models": timings.get(MODELS, 0.0),
        "images": sum(took for name, took in timings.items() if name == KEYS or name.startswith(PASS)),
        "estimates": sum(took for name, took in timings.items() if name.startswith(ESTIMATES)),
    }
    return {name: took for name, took in sums.items() if took}
