"""What a model's tokens are: said by the model, explained by its grid, or unknown; never guessed."""

import timm
import torch

from vitdsl.runtime.graph.anatomy import Anatomy, anatomy_of
from vitdsl.runtime.graph.sites import sites_of
from vitdsl.runtime.metrics.skip_ratio import SkipRatio


def built(arch: str, **options: object) -> torch.nn.Module:
    with torch.device("meta"):
        return timm.create_model(arch, **options).eval()


def test_a_vit_says_its_prefix_and_its_grid_explains_the_rest() -> None:
    anatomy = anatomy_of(built("vit_small_patch14_reg4_dinov2", img_size=70), (3, 70, 70))
    assert anatomy.prefix == 5 and anatomy.class_token
    assert anatomy.tokens(30) == (5, (5, 5))
    assert anatomy.tokens(25) == (0, (5, 5))
    assert anatomy.tokens(31) == (None, None)


def test_without_learned_tokens_every_token_is_spatial_whatever_their_grid() -> None:
    anatomy = anatomy_of(built("pvt_v2_b0"), (3, 224, 224))
    assert anatomy.prefix == 0
    assert anatomy.tokens(784)[0] == 0


def test_learned_tokens_of_which_the_model_does_not_say_where_they_stand_are_unknown() -> None:
    for arch in ("pit_ti_224", "crossvit_tiny_240", "coat_lite_tiny"):
        size = (3, 240, 240) if "240" in arch else (3, 224, 224)
        assert anatomy_of(built(arch), size).prefix is None, arch


def test_tokens_of_an_unknown_kind_are_refused_by_name_and_not_counted_as_spatial() -> None:
    """PiT pools its grid between stages and carries its class token apart: 1 + 27 x 27 tokens in the first."""
    sites = sites_of(built("pit_ti_224"), (3, 224, 224))
    name = next(iter(sites.units))
    site = sites.site(name, "skip")
    assert site.layout == "tokens" and site.prefix is None
    why = SkipRatio(SkipRatio.Params()).refuse(site)
    assert why is not None and "class or register tokens" in why


def test_an_axis_that_is_exactly_the_patches_has_no_prefix_even_so() -> None:
    anatomy = Anatomy((3, 224, 224), None, True, ((14, 14),), False)
    assert anatomy.tokens(196) == (0, (14, 14))
    assert anatomy.tokens(197) == (None, None)
