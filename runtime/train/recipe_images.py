"""The images of a recipe as its hash counts them: what of a data entry decides the weights.

Does not own the rest of a recipe (`store`).
"""

from pathlib import Path
from typing import Any

from vitdsl.dsl.study import Data
from vitdsl.runtime.data.sources._base import SOURCES
from vitdsl.runtime.paths import expanded


def images_that_count(data: Data, folder: Path) -> dict[str, Any]:
    """A training entry without what does not matter to training, its paths made absolute, ready for JSON.

    Args:
        data: The entry.
        folder: Where relative paths start.

    Returns:
        Its fields, with the version of its source from the second on: weights that were stored before a source had
        another one stay found.
    """
    other = {"image_blocks", "preprocess", "thumbnails", "vary"}
    fields = data.model_dump(mode="json", exclude=other, exclude_none=True)
    kind = SOURCES.kinds().get(data.source)
    for name in kind.paths if kind else ():
        above, _, last = name.rpartition(".")
        inside = fields.get(above) if above else fields
        value = inside.get(last) if isinstance(inside, dict) else None
        if isinstance(inside, dict) and value is not None:
            several = [
                str((folder / expanded(one)).resolve())
                for one in (value if isinstance(value, list) else [value])
            ]
            inside[last] = several if isinstance(value, list) else several[0]
    return fields | ({"version": kind.version} if kind and kind.version > 1 else {})
