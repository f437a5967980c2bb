"""Shuffled patches against plain models that are shown images shuffled by hand."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from ablated import FAMILIES, bench_of, output, place, plain, refusals, refused, same, values, with_images
from vitdsl import testing
from vitdsl.runtime.ablations._chance import fingerprint, order, orders, scattered
from vitdsl.runtime.ablations.shuffle_patches import Params, ShufflePatches, shuffled


def kind_of(**fields: object) -> ShufflePatches:
    return ShufflePatches(Params.model_validate({"grid": 4, **fields}))


def by_hand(image: Tensor, chosen: list[int], grid: int) -> Tensor:
    """An image `[channel, row, col]`, cell by cell."""
    high, wide = image.shape[1] // grid, image.shape[2] // grid
    result = torch.zeros_like(image)
    for to, cell in enumerate(chosen):
        row, col, from_row, from_col = (
            to // grid * high,
            to % grid * wide,
            cell // grid * high,
            cell % grid * wide,
        )
        result[:, row : row + high, col : col + wide] = image[
            :, from_row : from_row + high, from_col : from_col + wide
        ]
    return result


def mixed(number: int) -> int:
    """SplitMix64's last step as its author writes it, in unbounded integers."""
    word = (1 << 64) - 1
    number = (number + 0x9E3779B97F4A7C15) & word
    number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) & word
    number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) & word
    return number ^ (number >> 31)


def test_numbers_by_chance_are_those_of_splitmix() -> None:
    assert mixed(0) == 0xE220A8397B1DCDAF, "the first number of the generator with the seed 0"
    numbers = [0, 1, 12345, (1 << 62) + 9, -1, -987654321]
    found = scattered(torch.tensor(numbers)).tolist()
    assert [one % (1 << 64) for one in found] == [mixed(one % (1 << 64)) for one in numbers]


def test_every_order_is_about_as_likely() -> None:
    prints = torch.arange(6000)
    found = orders(prints, 3, 7)
    assert torch.equal(found.sort(1).values, torch.arange(3).expand(6000, 3))
    _, counts = torch.unique(found, dim=0, return_counts=True)
    assert len(counts) == 6
    assert float(((counts - 1000) ** 2 / 1000).sum()) < 20.5, (
        "chi squared with 5 degrees of freedom, p = 0.001"
    )
    assert not torch.equal(orders(prints, 3, 8), found)


def test_a_fingerprint_is_of_the_pixels_alone() -> None:
    images = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    whole = fingerprint(images)
    assert len(set(whole.tolist())) == 6
    assert torch.equal(torch.cat([fingerprint(one) for one in images.split([1, 3, 2])]), whole)
    assert torch.equal(fingerprint(images.flip(0)), whole.flip(0))
    assert torch.equal(fingerprint(images.requires_grad_()), whole)
    one = images.detach().clone()
    one[2, 1, 3, 4] = torch.nextafter(one[2, 1, 3, 4], torch.tensor(9.0))
    assert (fingerprint(one) != whole).tolist() == [False, False, True, False, False, False]
    assert torch.equal(fingerprint(torch.zeros(1, 2)), fingerprint(-torch.zeros(1, 2)))
    assert fingerprint(torch.tensor([[1.0, 2.0]])) != fingerprint(torch.tensor([[2.0, 1.0]]))


@pytest.mark.parametrize("name", list(FAMILIES))
@pytest.mark.parametrize("per", ["all", "image"])
def test_a_plain_model_is_shown_shuffled_images(name: str, per: str) -> None:
    bench, kind = bench_of(name), kind_of(per=per, seed=3)
    if per == "all":
        chosen = order(16, 3, torch.device("cpu")).expand(3, 16).tolist()
    else:
        chosen = orders(fingerprint(bench.images), 16, 3).tolist()
    assert all((one != other) == (per == "image") for one, other in pairwise(chosen))
    images = torch.stack([by_hand(*one, 4) for one in zip(bench.images, chosen, strict=True)])
    assert torch.equal(values(bench, (kind, "images"))[place(bench, kind, "images").node], images)
    same(output(bench, (kind, "images")), plain(bench, images=images))


def test_batches_do_not_matter_and_the_seed_does() -> None:
    bench = bench_of("resnet")
    kind, node = kind_of(per="image"), bench.sites.traced.images
    whole = values(bench, (kind, "images"))[node]
    parts = [
        values(with_images(bench, part), (kind, "images"))[node]
        for part in bench.images.flip(0).split([1, 2])
    ]
    assert torch.equal(torch.cat(parts).flip(0), whole)
    assert not torch.equal(values(bench, (kind_of(per="image", seed=1), "images"))[node], whole)


def test_one_cell_is_the_intact_image() -> None:
    images = torch.randn(2, 3, 6, 9)
    assert torch.equal(shuffled(images, grid=1, seed=0), images)
    found = shuffled(images, grid=3, seed=0)
    assert not torch.equal(found, images)
    assert torch.equal(found.flatten(2).sort(-1).values, images.flatten(2).sort(-1).values)


@pytest.mark.parametrize("per", ["all", "image"])
def test_laws(per: str) -> None:
    testing.check_ablation(kind_of(per=per), FAMILIES["resnet"] if per == "image" else None)


def test_images_that_cannot_be_cut() -> None:
    refused(refusals("vit", kind="shuffle_patches", grid=5), "VD302", "cannot be cut into 5 x 5 cells")
    refused(refusals("vit", kind="shuffle_patches", grid=0), "VD221", "grid")
    assert not refusals("swin", kind="shuffle_patches", grid=7)
