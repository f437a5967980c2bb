"""How complete the reading of many architectures is: what the program finds against what a plain forward does.

    PYTHONPATH=tests python -m census.counting counts.jsonl    # one of each kind of name, in an hour on one core
    PYTHONPATH=tests python -m census.counting some.jsonl vit_tiny_patch16_224 resnet50      # some

A line for each architecture; those that the file has are not asked again. When all are asked, the totals go to
`counts.json` beside this file, for docs/models.md. Owns which architectures are asked, and what complete means: every
residual sum and every softmax that weighs values, module by module, and nothing else. Does not own how a plain forward
is read (`plainly`), or whether numbers are right (`readings`).
"""

import json
import re
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import _registry, get_pretrained_cfg, is_model

from census.census import small_first
from census.plainly import plainly
from census.readings import wrong_readings
from vitdsl.dsl.diagnostics import VitdslError
from vitdsl.dsl.study import Model
from vitdsl.runtime.graph.sites import Sites, sites_of
from vitdsl.runtime.graph.unit_names import owner
from vitdsl.runtime.models.loading import skeleton

SIZES = set(
    """test atto femto pico nano tiny xxtiny xtiny xxs xs s small m medium b base l large xl xlarge xxl xxlarge h huge g
    giant gigantic so mediumd little betwixt e enormous zepto xx x c a w d r t p n f plus patch window px mci""".split()
)
"""Words of names that say how large an architecture is."""

TOTALS = Path(__file__).with_name("counts.json")
GIANT = 1_000_000_000
"""Parameters; architectures with more are not asked."""
LARGE = 50_000_000
"""Parameters; architectures with more are not asked on numbers."""
SIDE = 400
"""Pixels; architectures that take larger images are not asked on numbers."""


def kinds_of_names() -> dict[str, str]:
    """File of timm and stem of a name, to the smallest architecture that has both; names that are no more stay out.

    A stem is a name without numbers and words of size: `vit_reg_dinov` of `vit_small_patch14_reg4_dinov2`.
    """
    found: dict[str, list[str]] = {}
    for file, names in sorted(_registry._module_to_models.items()):
        for name in names:
            words = [re.sub(r"\d+", "", word) for word in name.split("_")]
            stem = "_".join(word for word in words if word and word not in SIZES)
            if is_model(name) and name not in _registry._deprecated_models:
                found.setdefault(f"{file}/{stem}", []).append(name)
    return {stem: min(names, key=small_first) for stem, names in sorted(found.items())}


def count(arch: str) -> dict[str, Any]:
    """What the program finds in an architecture, and what it does not."""
    started = time.perf_counter()
    model = skeleton(Model(arch=arch, weights="random"))
    if sum(one.numel() for one in model.parameters()) > GIANT:
        return {"arch": arch, "giant": True}
    size = get_pretrained_cfg(arch).input_size
    plain = plainly(model, size)
    elsewhere = _elsewhere(model, size) if plain.gates else {}
    gates = {path: found for path, found in plain.gates.items() if found != elsewhere[path]}
    plain.attention.update({path: len(found) for path, found in gates.items()})
    between = time.perf_counter()
    try:
        sites = sites_of(model, size)
    except VitdslError as error:
        return {"arch": arch, "refused": error.diagnostics[0].message}
    units = Counter(owner(unit.add) for unit in sites.units.values())
    return {
        "arch": arch,
        "seconds": [round(between - started, 2), round(time.perf_counter() - between, 2)],
        "units": units.total(),
        "attention": len(sites.attention.weights) + len(sites.attention.hidden),
        "hidden": dict(sites.attention.hidden),
        "kinds": dict(Counter(one.kind for one in sites.attention.weights.values())),
        "gates": sum(map(len, plain.gates.values())) - sum(map(len, gates.values())),
        "units_missing": dict(plain.residual - units),
        "units_more": dict(units - plain.residual),
        "attention_missing": dict(plain.attention - attention_of(sites)),
        "attention_more": dict(attention_of(sites) - plain.attention),
        "wrong": _wrong(arch, model, sites),
    }


def _wrong(arch: str, skeleton: Any, sites: Sites) -> list[str] | None:
    """Readings that are wrong on numbers; None where the model is too large for that."""
    if sum(one.numel() for one in skeleton.parameters()) > LARGE or max(sites.input_size) > SIDE:
        return None
    torch.manual_seed(0)
    return wrong_readings(timm.create_model(arch).eval(), sites)


def _elsewhere(model: Any, size: tuple[int, ...]) -> dict[str, list[int]]:
    """How many things each gate is over where the image is larger: of tokens there are more then."""
    channels, height, width = size
    return plainly(model, (channels, 2 * height, 2 * width)).gates


def attention_of(sites: Sites) -> Counter[str]:
    """How many softmaxes the program has read as attention, by the module that takes them."""
    return Counter(name.partition(":")[0] for name in (*sites.attention.weights, *sites.attention.hidden))


def main(out: Path, chosen: list[str]) -> None:
    """Ask all that are not asked yet; with all asked, write the totals."""
    known = {json.loads(line)["arch"] for line in out.read_text().splitlines()} if out.exists() else set()
    for arch in chosen or kinds_of_names().values():
        if arch in known:
            continue
        try:
            found = count(arch)
        except Exception as error:  # an architecture that cannot be built or run plainly
            found = {"arch": arch, "error": f"{type(error).__name__}: {error}"[:300]}
        with out.open("a") as file:
            file.write(json.dumps(found) + "\n")
        print(json.dumps(found), file=sys.stderr)
    if not chosen:
        asked = {one["arch"]: one for one in map(json.loads, out.read_text().splitlines())}
        TOTALS.write_text(json.dumps(totals(list(asked.values())), indent=2) + "\n")


def totals(answers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How many architectures were asked, and how many are complete; names of those that are not."""
    asked = [one for one in answers if not one.get("giant")]
    traced = [one for one in asked if "units" in one]
    with_units = [one for one in traced if one["units"] or one["units_missing"]]
    attending = [one for one in traced if one["attention"] or one["attention_missing"]]
    on_numbers = [one for one in traced if one["wrong"] is not None]

    def complete(some: Sequence[Mapping[str, Any]], what: str) -> dict[str, Any]:
        lacking = [one["arch"] for one in some if one[f"{what}_missing"] or one[f"{what}_more"]]
        return {"asked": len(some), "complete": len(some) - len(lacking), "lacking": lacking}

    kinds = Counter(kind or "of an image's tokens" for one in attending for kind in one["kinds"])
    return {
        "timm": timm.__version__,
        "asked": len(asked),
        "giants": [one["arch"] for one in answers if one.get("giant")],
        "traced": len(traced),
        "not_traced": {
            one["arch"]: one.get("refused") or one.get("error") for one in asked if one not in traced
        },
        "units": complete(with_units, "units") | {"sums": sum(one["units"] for one in with_units)},
        "attention": complete(attending, "attention")
        | {
            "softmaxes": sum(one["attention"] for one in attending),
            "hidden": [one["arch"] for one in attending if one["hidden"]],
            "kinds": dict(kinds.most_common()),
        },
        "without_any": len([one for one in traced if not one["units"] and not one["attention"]]),
        "numbers": {"asked": len(on_numbers), "wrong": [one["arch"] for one in on_numbers if one["wrong"]]},
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
