"""One text for each value: what hashes are taken of and variants are named by."""

import json
from typing import Any


def canonical(value: Any) -> str:
    """A value as JSON with sorted keys and no spaces: equal values, equal texts."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
