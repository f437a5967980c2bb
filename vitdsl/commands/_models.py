"""A model named on the command line: an architecture, and options of it, without a study around it."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vitdsl.dsl.study import Model


def named_model(arch: str, settings: Sequence[str], weights: Any = "random") -> "Model":
    """The model of an architecture with settings on it, as `--set` lays them on a study's model.

    Args:
        arch: A timm architecture.
        settings: Such as `options.img_size=32`.
        weights: As a study has them.

    Raises:
        StudyError: A setting that a model does not take.
    """
    from vitdsl.dsl.diagnostics import StudyError
    from vitdsl.dsl.nodes import plain
    from vitdsl.dsl.overrides import overridden
    from vitdsl.dsl.reader import read
    from vitdsl.dsl.schema import validated
    from vitdsl.dsl.source import SourceMap
    from vitdsl.dsl.study import Model, Study

    texts: dict[str, str] = {}
    labels: dict[str, str] = {}
    written = read(
        f"models: {{it: {{arch: {json.dumps(arch)}, weights: {json.dumps(weights)}}}}}", "<command line>"
    )
    assert written is not None
    wanted = [f"models.it.{setting}" for setting in settings]
    root = overridden(written, wanted, texts, labels, Study)
    data = plain(root)["models"]["it"]
    found = validated(Model, data, SourceMap(root, texts, labels), ("models", "it"))
    if isinstance(found, Model):
        return found
    raise StudyError(found)
