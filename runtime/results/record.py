"""Records: typed parts of what a run leaves in JSON. Free of torch.

JSON has no NaN and no infinity: both are null in a file, and a `Number` that is null is read as NaN. Does not own which
records there are (`manifest`, `verdicts`).
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict

from vitdsl.runtime.results.writing import finite

Number = Annotated[float, BeforeValidator(lambda value: float("nan") if value is None else value)]
"""A number, or NaN where it is undefined: null in the file."""


class Record(BaseModel):
    """A part of the manifest: unknown fields are errors, types are not coerced, values do not change."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, populate_by_name=True)

    def updated(self, **changes: Any) -> Self:
        """The record with other values in some fields, checked again."""
        return self.model_validate({**dict(self), **changes})


def as_json(value: Record | Mapping[str, Record] | Sequence[Record]) -> Any:
    """A record, or several, as the file has them."""
    if isinstance(value, Record):
        return finite(value.model_dump(by_alias=True))
    if isinstance(value, Mapping):
        return {key: as_json(one) for key, one in value.items()}
    return [as_json(one) for one in value]
