"""How two documents merge: `extends`, recipes and `--set` are all merges.

Owns the rules: mappings merge key by key, lists and scalars replace, null removes what an author added. Does not
own what the language allows where (`shape`).
"""

from pydantic import BaseModel

from vitdsl.dsl.nodes import Field, Fields, Node, Path, Scalar, with_fields
from vitdsl.dsl.shape import is_free, optional_sections, shape_at


def merge(
    base: Node,
    over: Node,
    language: type[BaseModel],
    path: Path = (),
) -> Node:
    """`over` laid on `base`: mappings merge key by key, lists and scalars replace, null removes.

    Args:
        base: The tree below.
        over: The tree above; its values win.
        language: The type of a whole study.
        path: Where both trees stand.
    """
    if not isinstance(base, Fields) or not isinstance(over, Fields) or _is_one_value(path, language):
        return over
    fields = dict(base.fields)
    for key, field in over.fields.items():
        here = (*path, key)
        if key not in base.fields:
            fields[key] = field
        elif isinstance(field.value, Scalar) and field.value.value is None and _is_removable(here, language):
            del fields[key]
        else:
            fields[key] = Field(field.key, merge(base.fields[key].value, field.value, language, here))
    return with_fields(over, fields)


def _is_removable(path: Path, language: type[BaseModel]) -> bool:
    """Whether null removes what a base has at this path, instead of being a value."""
    return is_free(path, language) or (len(path) == 1 and path[0] in optional_sections(language))


def _is_one_value(path: Path, language: type[BaseModel]) -> bool:
    """Whether a mapping at this path replaces as a whole: one form of weights does not merge with another."""
    shape = shape_at(path, language)
    return shape is not None and len(shape.entries) > 1
