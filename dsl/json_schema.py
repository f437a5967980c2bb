"""The JSON Schema of study files, for editors and other programs.

Owns the translation of the pydantic models to JSON Schema draft-07, the draft that YAML editors know best.
The kinds and their parameters come from outside: the language does not know them.
"""

import copy
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from vitdsl.dsl.origins import ORIGINS
from vitdsl.dsl.recipes import Recipe
from vitdsl.dsl.study import Ablation, Data, Metric, Study

Kinds = Mapping[str, tuple[str, type[BaseModel]]]
"""The kinds of one section by name: a line about each, and its parameters."""

SCHEMA_ID = "urn:vitdsl:study:1"
COMMITTED = Path(__file__).with_name("vitdsl-1.schema.json")

_REF = "#/definitions/"
_SECTIONS: dict[str, tuple[type[BaseModel], str]] = {
    "data": (Data, "source"),
    "ablations": (Ablation, "kind"),
    "metrics": (Metric, "kind"),
}
_FREE = {"^x-": {"description": "Free space: kept for the reader, ignored by the program."}}


def json_schema(kinds: Mapping[str, Kinds] | None = None) -> dict[str, Any]:
    """The schema of a study or recipe file.

    Args:
        kinds: For `data`, `ablations` and `metrics`, the kinds with their parameters. Sections that are left
            out take any kind with any parameters.
    """
    definitions = _definitions(Study) | _definitions(Recipe)
    for section, known in (kinds or {}).items():
        entry, key = _SECTIONS[section]
        _add_kinds(definitions, entry.__name__, key, known)
    for name in list(definitions):
        definitions[f"Partial{name}"] = _partial(definitions[name])
    _train_over_recipe(definitions)
    definitions["Model"]["anyOf"] = [{"required": [field]} for field in ORIGINS]
    for name in ("Study", "PartialStudy"):
        definitions[name]["properties"]["extends"] = {
            "type": "string",
            "description": "A study file that this one is laid on, such as `./base.yaml`.",
        }
        definitions[name]["patternProperties"] = _FREE
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$id": SCHEMA_ID,
        "title": "vitdsl study",
        "description": "A study or training recipe of vitdsl, version 1 of the language.",
        "type": "object",
        "if": {"required": ["recipe"]},
        "then": {"$ref": f"{_REF}Recipe"},
        "else": {
            "if": {"required": ["extends"]},
            "then": {"$ref": f"{_REF}PartialStudy"},
            "else": {"$ref": f"{_REF}Study"},
        },
        "definitions": dict(sorted(definitions.items())),
    }


def as_text(schema: Mapping[str, Any]) -> str:
    """The schema as the committed file has it."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _definitions(model: type[BaseModel]) -> dict[str, Any]:
    """The definitions of a model and of everything in it, in draft-07."""
    found = model.model_json_schema(by_alias=True, ref_template=_REF + "{model}")
    definitions: dict[str, Any] = found.pop("$defs", {})
    definitions[model.__name__] = found
    return {name: _tidied(definition) for name, definition in definitions.items()}


def _tidied(node: Any) -> Any:
    """Without pydantic's titles and newer keywords."""
    if isinstance(node, list):
        return [_tidied(inner) for inner in node]
    if not isinstance(node, dict):
        return node
    found = {
        key: {name: _tidied(inner) for name, inner in value.items()}
        if key == "properties"
        else _tidied(value)
        for key, value in node.items()
        if key != "discriminator" and not (key == "title" and isinstance(value, str))
    }
    if "prefixItems" in found:
        found["items"] = found.pop("prefixItems")
    if "patternProperties" in found:
        found["additionalProperties"] = False
    if "$ref" in found and len(found) > 1:
        found["allOf"] = [{"$ref": found.pop("$ref")}]
    if "description" in found and found.get("type") == "object" and "properties" in found:
        found["description"] = str(found["description"]).partition("\n")[0]
    return found


def _add_kinds(definitions: dict[str, Any], name: str, key: str, kinds: Kinds) -> None:
    """Replace an entry that takes any parameters by one form for each kind."""
    base = definitions[f"{name}Fields"] = definitions[name]
    words = base["properties"][key].get("description", "")
    forms = []
    for kind, (line, params) in kinds.items():
        own = _definitions(params)
        fields = own.pop(params.__name__)
        prefix = f"{name}_{kind}"
        definitions |= {f"{prefix}_{inner}": _renamed(value, prefix) for inner, value in own.items()}
        definitions[prefix] = {
            "type": "object",
            "description": line,
            "properties": {
                **{field: {"$ref": f"{_REF}{name}Fields/properties/{field}"} for field in base["properties"]},
                key: {"const": kind, "description": line},
                **_renamed(fields.get("properties", {}), prefix),
            },
            "required": [*base.get("required", []), *fields.get("required", [])],
            "additionalProperties": False,
        }
        forms.append((kind, line, prefix))
    definitions[name] = {
        "type": "object",
        "description": base.get("description", ""),
        "properties": {
            key: {
                "description": words,
                "oneOf": [{"const": kind, "description": line} for kind, line, _ in forms],
            }
        },
        "required": [key],
        "allOf": [
            {
                "if": {"properties": {key: {"const": kind}}, "required": [key]},
                "then": {"$ref": _REF + prefix},
            }
            for kind, _, prefix in forms
        ],
    }


def _renamed(node: Any, prefix: str) -> Any:
    """The references of a kind's parameters under the names that they have here."""
    return _mapped(node, lambda target: f"{prefix}_{target}")


def _mapped(node: Any, rename: Callable[[str], str]) -> Any:
    if isinstance(node, list):
        return [_mapped(inner, rename) for inner in node]
    if not isinstance(node, dict):
        return node
    return {
        key: _REF + rename(value.removeprefix(_REF)) if key == "$ref" else _mapped(value, rename)
        for key, value in node.items()
    }


def _partial(definition: Any) -> Any:
    """The form of an entry in a file that extends another: nothing is required, null removes."""
    found: dict[str, Any] = _mapped(copy.deepcopy(definition), lambda target: f"Partial{target}")
    if "allOf" in found:
        found.pop("required", None)
        for form in found["allOf"]:
            form.pop("required", None)
        return found
    found.pop("required", None)
    for field in found.get("properties", {}).values():
        if field.get("type") == "object":
            field.pop("minProperties", None)
            field["type"] = ["object", "null"]
            for pattern, inner in field.get("patternProperties", {}).items():
                field["patternProperties"][pattern] = {"anyOf": [inner, {"type": "null"}]}
    return found


def _train_over_recipe(definitions: dict[str, Any]) -> None:
    """Under `train` a recipe may hold what is required, so that the study need not repeat it."""
    data = definitions["Train"]["properties"]["data"]
    definitions["Train"]["properties"]["data"] = _mapped(data, lambda target: f"Partial{target}")
