"""What an entry is: a mapping of a study in typed form, which fails in the words of the language.

Owns what all entries have in common. Does not own any entry (`entries`, `study`; a kind's parameters in the
runtime) nor the messages (`complaints`).
"""

from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ModelWrapValidatorHandler, model_validator

from vitdsl.dsl.diagnostics import StudyError
from vitdsl.dsl.schema import collected, collecting
from vitdsl.dsl.source import SourceMap
from vitdsl.dsl.words import Words


class Entry(BaseModel):
    """A mapping in a study: unknown keys are errors, types are not coerced, values do not change."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, populate_by_name=True)

    in_words: ClassVar[Words] = Words()
    whole_study: ClassVar[type[BaseModel] | None] = None
    """The type of a whole study, so that a misplaced key can be told where it belongs."""

    @model_validator(mode="wrap")
    @classmethod
    def _in_clear_words(cls, data: Any, build: ModelWrapValidatorHandler[Self]) -> Self:
        """Raise a StudyError where an entry is built by itself; inside another, that one tells all errors."""
        if collecting():
            return build(data)
        found = collected(lambda: build(data), cls, data, SourceMap())
        if isinstance(found, list):
            raise StudyError(found)
        return found


class KindEntry(Entry):
    """An entry whose kind adds fields of its own; they are checked by the kind when the study is bound."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True, populate_by_name=True)

    @property
    def params(self) -> dict[str, Any]:
        """The fields that belong to the kind, as written."""
        return dict(self.model_extra or {})
