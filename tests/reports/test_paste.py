"""Words to paste: what the run knows is in the paragraph, what it rests on in the BibTeX, and four lines repeat it."""

import dataclasses
import html
import json
from typing import Any

from vitdsl.reports import words
from vitdsl.reports.render import render
from vitdsl.runtime.results.folder import Run
from vitdsl.runtime.results.manifest import Manifest
from vitdsl.runtime.results.record import as_json


def with_citations(run: Run) -> Run:
    """The sample's run, whose kinds say what they come from."""
    manifest: dict[str, Any] = as_json(run.manifest)
    for metric in manifest["metrics"].values():
        metric["cites"] = ["kornblith2019"] if metric["kind"] == "cka" else ["of_a_plugin"]
    manifest["models"]["vit"]["family"] = "timm.models.vision_transformer"
    manifest["environment"]["packages"] = {"torch": "9.8.7", "timm": "6.5.4"}
    return dataclasses.replace(run, manifest=Manifest.model_validate_json(json.dumps(manifest)))


def test_the_paragraph_says_what_the_run_knows(run: Run) -> None:
    run = with_citations(run)
    said = words.methods(run)
    vit = run.manifest.models["vit"]
    (data,) = run.manifest.data.values()
    assert f"vit ({vit.arch} [Dosovitskiy et al., 2021], " in said
    assert f"{data.images:,} images" in said and data.source in said
    assert "PyTorch 9.8.7 [Paszke et al., 2019]" in said and "timm 6.5.4 [Wightman, 2019]" in said
    assert "Kornblith et al., 2019" in said and "of_a_plugin" not in said
    counts = {
        name: sum(one.ablation == name for some in run.manifest.conditions.values() for one in some)
        for name in run.manifest.ablations
    }
    for name, ablation in run.manifest.ablations.items():
        assert f"{name} ({ablation.kind}, {counts[name]} conditions" in said
    assert f"The study states {len(run.manifest.claims)} claims" in said and "[Holm, 1979]" in said
    assert "  " not in said and said.endswith(".")


def test_the_paragraph_calls_models_and_ablations_by_their_titles(run: Run) -> None:
    manifest: dict[str, Any] = as_json(run.manifest)
    manifest["models"]["vit"] |= {"title": "A small ViT"}
    manifest["models"]["resnet"]["preprocessing"]["crop_pct"] = 0.9
    manifest["ablations"]["no_skip_vit"] |= {"title": "One skip, removed"}
    said = words.methods(
        dataclasses.replace(run, manifest=Manifest.model_validate_json(json.dumps(manifest)))
    )
    assert "A small ViT (vit_tiny" in said and "For A small ViT, images were" in said
    assert "One skip, removed (remove_skip, 8 conditions" in said and "no_skip_vit" not in said


def test_bibtex_has_each_work_once_and_the_run_first(run: Run) -> None:
    run = with_citations(run)
    text = words.bibtex(run)
    heads = [line for line in text.splitlines() if line.startswith("@")]
    assert len(heads) == len(set(heads)) and "@software{vitdsl," in heads
    assert (
        heads[0].startswith(f"@misc{{{run.manifest.study}_") and f"vitdsl run {run.manifest.run_id}" in text
    )
    assert {"kornblith2019", "dosovitskiy2021", "holm1979", "paszke2019", "wightman2019"} <= {
        head.partition("{")[2].rstrip(",") for head in heads
    }
    assert text.count("{") == text.count("}")


def test_four_lines_repeat_the_run(run: Run) -> None:
    lines = words.reproduce(run).splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("pip install") and all(
        one.weights.sha256[:12] in lines[1] for one in run.manifest.models.values()
    )
    assert lines[2].startswith("vitdsl run spec.resolved.yaml")
    assert lines[3].startswith(f"vitdsl diff runs/{run.manifest.run_id} latest")


def test_the_page_has_all_of_it(run: Run) -> None:
    run = with_citations(run)
    page = html.unescape(render(run))
    for text in (words.methods(run), words.bibtex(run), words.reproduce(run)):
        assert text.strip() in page
    assert "Similarity of Neural Network Representations Revisited" in page
