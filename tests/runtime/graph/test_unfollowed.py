"""Models whose program cannot be followed: which sites they have, what is read there, and what is refused."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from deciding import ByImage, Deciding, OwnOperation, Patches, When, made
from hooked import FAMILIES
from vitdsl.dsl.diagnostics import Diagnostic, StudyError
from vitdsl.runtime.graph.edit import Lane
from vitdsl.runtime.graph.hooks import HookedModel, OtherwiseError
from vitdsl.runtime.graph.merge import Merged, merge
from vitdsl.runtime.graph.propagate import FLOPS
from vitdsl.runtime.graph.sites import Sites, same_sites, sites_of
from vitdsl.runtime.graph.tap import Reducer, Tap
from vitdsl.runtime.graph.unfollowed import by_hooks
from vitdsl.runtime.models.fingerprint import structure
from vitdsl.runtime.models.loading import skeleton, with_numbers
from vitdsl.runtime.models.outside import without_weights
from vitdsl.runtime.models.preprocessing import preprocessing

SIZE = (3, 32, 32)
FACTS = ("shape", "layout", "prefix", "class_token", "grid", "patch", "fixed")


def hooked(model: nn.Module) -> Sites:
    return sites_of(without_weights(model), SIZE, real=lambda: copy.deepcopy(model))


def refused(model: nn.Module) -> str:
    with pytest.raises(StudyError) as caught:
        hooked(model)
    (one,) = caught.value.diagnostics
    assert one.code == "VD301"
    return one.message


def same(tensor: Tensor, **_: Any) -> Tensor:
    return tensor


def read(
    model: nn.Module, names: Sequence[tuple[str, str]]
) -> tuple[Merged, Sites, dict[tuple[str, str], Tap]]:
    """A merged graph that gives tensors as they are."""
    sites = same_sites(model, hooked(model))
    node = {(role, name): sites.nodes[role][name] if name else sites.traced.output for role, name in names}
    taps = {key: Tap((node[key],), Reducer(same), sites.site(key[1], key[0])) for key in names}
    return merge(model, sites.traced.graph, [Lane("b")], {"b": list(taps.values())}), sites, taps


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_that_can_be_traced_has_the_same_sites_by_hooks(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = skeleton(FAMILIES[family])
    size = preprocessing(empty, FAMILIES[family]).input_size
    followed = sites_of(empty, size, unfuse=frozenset())

    def untraceable(*_: Any, **__: Any) -> None:
        raise StudyError(Diagnostic("VD301", "it cannot be traced"))

    monkeypatch.setattr("vitdsl.runtime.graph.sites.trace", untraceable)
    found = sites_of(empty, size, real=lambda: with_numbers(FAMILIES[family]))
    assert found.unfollowed is not None and found.unfollowed.why == "it cannot be traced"
    windows = 0
    for role in ("output", "input"):
        assert set(followed.names(role)) <= {*found.names(role), *found.unfollowed.left_out}
        for name in set(followed.names(role)) & set(found.names(role)):
            one, other = followed.site(name, role), found.site(name, role)
            windows += one.layout == "windows"
            assert [getattr(one, fact) for fact in FACTS] == [getattr(other, fact) for fact in FACTS], (
                role,
                name,
            )
    assert windows > 0 or family != "swin"
    one, other = followed.site("", "output"), found.site("", "output")
    assert [getattr(one, fact) for fact in FACTS] == [getattr(other, fact) for fact in FACTS]
    works = [
        sum(node.meta.get(FLOPS, 0.0) for node in sites.traced.graph.nodes) for sites in (followed, found)
    ]
    assert works[1] == pytest.approx(works[0], rel=1e-6)
    assert not found.units and not found.names("attention") and not found.names("branch")


def test_what_is_read_is_what_own_hooks_see_in_float64_also_where_it_is_written_over() -> None:
    model = made(Deciding)
    names = [
        ("output", "patches"), ("output", "blocks.0.fc"), ("output", "blocks.0.act"), ("output", "blocks.1"),
        ("output", "blocks.1:1"), ("input", "blocks.1.norm:1"), ("input", "head"), ("output", ""),
    ]  # fmt: skip
    merged, sites, taps = read(model, names)
    assert sites.unfollowed is not None and "in `decided` (deciding.py, line" in sites.unfollowed.why
    images = torch.randn(5, *SIZE, generator=torch.Generator().manual_seed(7))
    with torch.inference_mode():
        given = merged.module(images)
    exact = copy.deepcopy(model).double()
    seen: dict[tuple[str, str], list[Tensor]] = {}

    def note(role: str, path: str) -> Callable[..., None]:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor | None = None) -> None:
            value = inputs[0] if role == "input" else output
            assert value is not None
            seen.setdefault((role, path), []).append(value.clone())

        return hook

    for path, module in exact.named_modules():
        module.register_forward_pre_hook(note("input", path))
        module.register_forward_hook(note("output", path))
    with torch.no_grad():
        exact(images.double())
    for role, name in names:
        path, _, nth = name.partition(":")
        expected = seen[role, path][int(nth or 0)]
        (found,) = given[merged.slots["b", taps[role, name]]]
        torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)
    before, after = (
        given[merged.slots["b", taps["output", name]]][0] for name in ("blocks.0.fc", "blocks.0.act")
    )
    assert before.min() < 0 <= after.min(), "the layer's output is from before it was written over"


def test_only_what_is_wanted_is_kept() -> None:
    merged, _, _ = read(made(Deciding), [("output", "blocks.0"), ("output", "")])
    (reader,) = [one for one in merged.module.modules() if isinstance(one, HookedModel)]
    assert reader.wanted == {("output", "blocks.0"), ("output", "")}
    assert merged.live < merged.kept


def test_its_tokens_are_known_as_far_as_its_program_stays_in_pytorch() -> None:
    site = hooked(made(Deciding)).site("blocks.1:1", "output")
    assert (site.layout, site.prefix, site.class_token, site.grid, site.patch) == (
        "tokens",
        1,
        True,
        (4, 4),
        (8, 8),
    )
    sites = hooked(made(OwnOperation))
    assert sites.site("patches", "output").grid == (4, 4)
    site = sites.site("blocks.0", "output")
    assert (site.layout, site.prefix, site.class_token, site.grid) == ("tokens", None, False, None)


def test_a_module_that_is_called_for_single_images_is_left_out() -> None:
    sites = hooked(made(ByImage))
    assert sites.unfollowed is not None and sites.unfollowed.left_out == ("step", "bright")
    assert "in `step`, `bright`" in sites.unfollowed.said
    names = sites.names("output")
    assert "blocks.0" in names and not {"step", "bright", "step:1"} & set(names)
    site = sites.site("blocks.0", "output")
    assert site.layout == "tokens" and site.shape == (17, 12)


def test_what_is_not_of_single_images_is_left_out() -> None:
    def then(model: Patches, tokens: Tensor) -> Tensor:
        model.spare(tokens.mean(0))  # type: ignore[operator]
        return tokens

    sites = hooked(made(lambda: When(lambda tokens: bool(tokens.abs().max() >= 0), then)))
    assert sites.unfollowed is not None and sites.unfollowed.left_out == ("spare",)
    assert "spare" not in sites.names("output") and "blocks.0" in sites.names("output")


def shifted(model: Patches, tokens: Tensor) -> Tensor:
    return tokens + 1


def spare(model: Patches, tokens: Tensor) -> Tensor:
    found: Tensor = model.spare(tokens)  # type: ignore[operator]
    return found


REFUSED: dict[str, tuple[Callable[[], Patches], str]] = {
    "by others of its batch": (
        lambda: When(lambda x: bool(x.sum() > 0), shifted),
        "hangs on the others of its batch",
    ),
    "against others of its batch": (
        lambda: When(lambda x: bool(x.abs().max() > 0), lambda _, x: x + x.mean((0, 1))),
        "hangs on the others of its batch",
    ),
    "by chance": (
        lambda: When(lambda x: bool(x.abs().max() > 0), lambda _, x: torch.dropout(x, 0.5, True)),
        "or on chance",
    ),
    "an error of its own": (
        lambda: When(lambda x: bool(x.abs().max() > 0), lambda _, x: x @ x),
        "nor can it be read by hooks: it does not run: RuntimeError:",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_read_by_hooks_is_refused_with_both_reasons(case: str) -> None:
    kind, why = REFUSED[case]
    message = refused(made(kind))
    assert (
        why in message and "`When` cannot be traced: " in message and "(test_unfollowed.py, line" in message
    )


def test_modules_in_another_order_are_refused() -> None:
    class Turned(Deciding):
        def forward(self, images: Tensor) -> Tensor:
            x = self.patches(images).flatten(2).transpose(1, 2)
            for block in self.blocks if x.mean() > 0 else reversed(self.blocks):
                x = block(x)
            return self.head(x[:, 0])  # type: ignore[no-any-return]

    assert "in another order for other images" in refused(made(Turned))


def test_a_model_that_gives_several_tensors_is_refused() -> None:
    class Several(Deciding):
        def forward(self, images: Tensor) -> Any:
            return {"logits": super().forward(images)}

    assert refused(made(Several)) == "`Several` returns a dict, not one tensor"


CHANGED: dict[str, tuple[Callable[[Patches, Tensor], Tensor], str]] = {
    "more": (spare, "it calls `spare` where it otherwise calls `blocks.0`"),
    "fewer tokens": (
        lambda _, tokens: tokens[:, :5],
        "the output of `blocks.0` is [3, 5, 12] where it otherwise is [3, 17, 12]",
    ),
    "an error of its own": (
        lambda _, tokens: tokens @ tokens,
        "it raises RuntimeError: Expected size for first two",
    ),
}


@pytest.mark.parametrize("case", CHANGED)
def test_a_batch_for_which_it_does_something_else_is_an_error(case: str) -> None:
    then, said = CHANGED[case]
    merged, _, _ = read(made(lambda: When(lambda x: bool(x.max() > 50), then)), [("output", "blocks.0")])
    images = torch.randn(3, *SIZE)
    merged.module(images)
    with pytest.raises(OtherwiseError) as caught:
        merged.module(images * 1000)
    assert str(caught.value).startswith(said)


def test_two_programs_have_one_structure_if_they_do_the_same() -> None:
    def found(threshold: float, by: float) -> str:
        model = made(lambda: When(lambda x: bool(x.abs().max() > threshold), lambda _, x: x * by))
        return structure(model, SIZE)

    assert found(0.0, 0.5) == found(0.0, 0.5)
    assert found(0.0, 0.5) != found(0.0, 0.25) and found(0.0, 0.5) != found(1e9, 0.5)
    assert structure(made(Deciding), SIZE) != structure(made(OwnOperation), SIZE)


def test_the_model_stays_as_it_is() -> None:
    model = made(Deciding)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    by_hooks(model, SIZE, StudyError(Diagnostic("VD301", "it cannot be traced")))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not any(one._forward_hooks or one._forward_pre_hooks for one in model.modules())
