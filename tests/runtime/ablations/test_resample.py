"""Exchanged values against the plain model on the partner's image; partners that hang on the stream alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hooked import CLOSE, FAMILIES, changed, edits, exact, output, places, plain
from studies import TINY_VIT, bound, study
from studies import changed as model
from vitdsl import testing
from vitdsl.dsl.diagnostics import StudyError
from vitdsl.dsl.study import Entry
from vitdsl.runtime.ablations.remove_branch import RemoveBranch
from vitdsl.runtime.ablations.resample import Params, Resample, of_another, partners
from vitdsl.runtime.data.stream import rows_of_batch
from vitdsl.runtime.graph.site import Site
from vitdsl.runtime.run.run import run

AT = {
    "vit": ("blocks.1", "blocks.1.mlp"),
    "swin": ("layers.0", "layers.0.blocks.0.mlp"),
    "resnet": ("layer2.0", "layer2.0.bn2"),
    "convnext": ("stages.2.blocks.0", "stages.2.blocks.0.mlp"),
    "mixer": ("blocks.3", "blocks.3.mlp_tokens"),
}
IMAGES = 6


def kind(group: int = 4, shift: int = 1) -> Resample:
    return Resample(Params(group=group, shift=shift))


def of_position(row: int, count: int, group: int, shift: int) -> int:
    """The partner of the image at one position of a stream, said of the stream and not of a batch."""
    left = count % group
    first = row // group * group
    size = min(group, count - first)
    if left == 1 and row >= count - group - 1:
        first, size = count - group - 1, group + 1
    on = shift if shift < size else (shift - 1) % (size - 1) + 1
    return first + (row - first + on) % size


@pytest.mark.parametrize("name", list(FAMILIES))
def test_the_model_goes_on_from_the_partners_value(name: str) -> None:
    """Six images in groups of four: four go round, and the two that are left change places."""
    bench, (at, _) = exact(name, IMAGES), AT[name]
    order = [1, 2, 3, 0, 5, 4]
    found = output(bench, *edits(bench, kind(), places(bench, "output", [at])))
    torch.testing.assert_close(found, plain(bench, {at: lambda _, __, out: out[order]}), **CLOSE)
    torch.testing.assert_close(found, bench.intact[bench.sites.traced.output][order], **CLOSE)


@pytest.mark.parametrize("name", list(FAMILIES))
def test_a_branch_is_that_of_the_partner(name: str) -> None:
    bench, (_, module) = exact(name, IMAGES), AT[name]
    unit = {"resnet": "layer2.0", "convnext": "stages.2.blocks.0"}.get(name, module)
    found = output(bench, *edits(bench, kind(3, 2), places(bench, "branch", [unit])))
    wanted = plain(bench, {module: lambda _, __, out: out[[2, 0, 1, 5, 3, 4]]})
    torch.testing.assert_close(found, wanted, **CLOSE)


def test_some_tokens_are_the_partners_and_the_others_are_not() -> None:
    bench = exact("vit", IMAGES)
    node = bench.sites.nodes["output"]["blocks.1"]
    found = changed(bench, *edits(bench, kind(2), places(bench, "output", ["blocks.1"], "cls")))[node]
    assert torch.equal(found[:, 0], bench.intact[node][[1, 0, 3, 2, 5, 4], 0])
    assert torch.equal(found[:, 1:], bench.intact[node][:, 1:])


def test_edits_before_it_are_part_of_what_the_partner_gives() -> None:
    bench, order = exact("vit", IMAGES), [1, 2, 3, 0, 5, 4]
    remove = edits(bench, RemoveBranch(Entry()), places(bench, "branch", ["blocks.0.mlp"]))
    swap = edits(bench, kind(), places(bench, "stream", ["blocks.1.mlp"]))
    node = bench.sites.nodes["stream"]["blocks.1.mlp"]
    for edited in ((*remove, *swap), (*swap, *remove)):
        assert torch.equal(changed(bench, *edited)[node], changed(bench, *remove)[node][order])
    twice = changed(bench, *swap, *swap)[node]
    assert torch.equal(twice, bench.intact[node][order][order])


@pytest.mark.parametrize("group", [2, 3, 4, 8])
def test_partners_hang_on_the_place_in_the_stream_and_not_on_the_batch(group: int) -> None:
    several = 0
    for count in range(2, 4 * group + 2):
        for shift in range(1, group):
            whole = [of_position(row, count, group, shift) for row in range(count)]
            assert sorted(whole) == list(range(count)), "each image is somebody's partner"
            assert all(partner != row for row, partner in enumerate(whole)), "nobody is their own"
            for batch in range(1, count + 1):
                rows = cut(count, batch)
                if all(one.start % group == 0 for one in rows):
                    found = [
                        one.start + partner for one in rows for partner in partners(len(one), group, shift)
                    ]
                    assert found == whole, (count, shift, batch)
                    several += len(rows) > 1
    assert several > group


def cut(count: int, batch: int) -> list[range]:
    """The batches of a stream."""
    batches = -(-count // batch)
    return [rows_of_batch(count, batches, one) for one in range(batches)]


def test_an_image_alone_has_no_partner() -> None:
    with pytest.raises(StudyError, match="no other image"):
        of_another(torch.zeros(1, 3), group=4, shift=1)


def test_laws() -> None:
    testing.check_ablation(kind(2))


STUDY = study(
    "exchange",
    data="{probe: {source: noise, total: 18, batch: BATCH, image_blocks: 2}}",
    models={"vit": model(TINY_VIT, {"num_classes": 5})},
    layers='{stream: {of: vit, at: "blocks.*", role: stream, tokens: cls}}',
    ablations={"swap": '{kind: resample, of: vit, at: "blocks.*.mlp", each: true}'},
    metrics={"ratio": "{kind: skip_ratio, of: vit}"},
)


def text(batch: int, **fields: Any) -> str:
    found = STUDY.replace("BATCH", str(batch))
    for name, value in fields.items():
        found = found.replace(f"{name}: 18", f"{name}: {value}")
    return found


def test_a_study_gives_the_same_with_other_batches(tmp_path: Path) -> None:
    """Through a whole run: 17 images in one batch, or in two of 8 and 9; the last one goes with the four before it."""
    from vitdsl.runtime.results.folder import open_run

    found: list[Any] = []
    for batch in (17, 9, 32):
        outcome = run(bound(text(batch, total=17)), out=tmp_path / str(batch))
        assert outcome.folder is not None
        group = open_run(outcome.folder).groups["ratio/vit"]
        found.append(group["ratio"].values)
        assert group["condition"].values.tolist() == ["baseline", "swap@blocks.0.mlp", "swap@blocks.1.mlp"]
    assert not np.allclose(found[0][1], found[0][0])
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], rtol=1e-6, equal_nan=True)


@pytest.mark.parametrize(
    ("batch", "total", "fields", "says"),
    [
        (8, 18, "", ["groups of 4 images, and 18 images make 3 batches of 6", "`batch: 8` and `images: 16`"]),
        (6, 18, "", ["groups of 4 images, and 18 images make 3 batches of 6", "`batch: 4` and `images: 16`"]),
        (
            3,
            16,
            "",
            ["groups of 4 images, and 16 images make 6 batches of 2 or 3", "`batch: 4` and `images: 16`"],
        ),
        (8, 18, "group: 4", ["groups of 4 images"]),
        (
            8,
            16,
            "group: 3",
            ["groups of 3 images, and 16 images make 2 batches of 8", "`batch: 6` and `images: 12`"],
        ),
        (8, 1, "", ["groups of 4 images, and there is one image"]),
        (8, 18, "shift: 4", ["`shift: 4` leaves a group of 4 images"]),
        (8, 18, "group: 1", ["at least 2"]),
        (8, 18, "shift: 0", ["at least 1"]),
    ],
)
def test_what_would_part_a_group_is_refused(batch: int, total: int, fields: str, says: Sequence[str]) -> None:
    with pytest.raises(StudyError) as caught:
        bound(text(batch, total=total).replace("each: true", f"each: true, {fields}".rstrip(", ")))
    assert all(words in str(caught.value) for words in says), str(caught.value)


def test_other_streams_may_be_cut_as_they_like() -> None:
    """A metric that looks at the intact model alone does not mind."""
    other = text(8, total=16).replace(
        "image_blocks: 2}", "image_blocks: 2}, odd: {source: noise, total: 9, batch: 3}"
    )
    assert bound(other.replace("of: vit}\n", "of: vit, data: odd, under: baseline}\n", 1))
    with pytest.raises(StudyError, match="groups of 4 images"):
        bound(other.replace("of: vit}\n", "of: vit, data: odd}\n", 1))


def test_windows_and_training_are_refused() -> None:
    windows = Site("a", "output", (49, 24), "windows", 0.5)
    assert "windows of images" in (kind().refuse(windows) or "")
    trained = text(8, total=16).replace(
        "weights: random", "train: {data: {source: digits, split: train}, without: swap}"
    )
    with pytest.raises(StudyError, match="`resample` cannot hold during training: who exchanges with whom"):
        bound(trained)
