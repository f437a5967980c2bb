"""Float32 means float32, whatever a program has allowed before, and what it allowed stands again behind a run."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from vitdsl.dsl.diagnostics import EnvironmentProblem
from vitdsl.runtime.rounding import _Settings, check_dtype, products_in

BACKENDS: Any = torch.backends
needs_names = pytest.mark.skipif(not hasattr(BACKENDS.cudnn, "conv"), reason="torch has them from 2.9 on")


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = _Settings.now()
    yield
    BACKENDS.fp32_precision = "none"
    before.set()


def by_old_names() -> None:
    torch.set_float32_matmul_precision("high")
    BACKENDS.cudnn.allow_tf32 = True


def by_new_names() -> None:
    BACKENDS.cuda.matmul.fp32_precision = "tf32"
    BACKENDS.cudnn.conv.fp32_precision = "ieee"


def altogether() -> None:
    BACKENDS.fp32_precision = "tf32"


@needs_names
@pytest.mark.parametrize("allow", [by_old_names, by_new_names, altogether, lambda: None])
def test_products_are_whole_whatever_a_program_has_allowed(allow: Callable[[], None]) -> None:
    allow()
    allowed = _Settings.now()
    with products_in("float32"):
        parts = [BACKENDS.cuda.matmul, BACKENDS.cudnn.conv, BACKENDS.cudnn.rnn, BACKENDS.mkldnn.matmul]
        assert {part.fp32_precision for part in parts} == {"ieee"}
        assert torch.get_float32_matmul_precision() == "highest"
        assert not BACKENDS.cudnn.allow_tf32
    assert _Settings.now() == allowed


@needs_names
def test_tf32_rounds_products_of_the_device_alone() -> None:
    with products_in("tf32"):
        assert BACKENDS.cudnn.allow_tf32
        assert BACKENDS.cuda.matmul.fp32_precision == "tf32"
        assert BACKENDS.mkldnn.matmul.fp32_precision == "ieee"
        with products_in("float32"):
            assert not BACKENDS.cudnn.allow_tf32
        assert BACKENDS.cudnn.allow_tf32


def test_an_error_inside_leaves_nothing_changed() -> None:
    before = _Settings.now()
    with pytest.raises(ZeroDivisionError), products_in("tf32"):
        raise ZeroDivisionError
    assert _Settings.now() == before


@pytest.mark.parametrize("dtype", ["float32", "bf16", "fp16"])
def test_every_device_has_the_others(dtype: str) -> None:
    check_dtype(dtype, torch.device("cpu"))


def test_tf32_is_refused_where_there_is_no_cuda() -> None:
    with pytest.raises(EnvironmentProblem, match="this run computes on cpu") as error:
        check_dtype("tf32", torch.device("cpu"))
    assert error.value.diagnostics[0].code == "VD408"


def test_what_nothing_computes_in_is_refused() -> None:
    with pytest.raises(EnvironmentProblem, match=r"`bfloat16` \(take one of: float32, tf32, bf16, fp16\)"):
        check_dtype("bfloat16", torch.device("cpu"))


@pytest.mark.gpu
def test_convolutions_on_cuda_have_all_bits() -> None:
    images, weight = torch.randn(4, 64, 32, 32), torch.randn(64, 64, 3, 3)
    exact = F.conv2d(images.double(), weight.double())
    with products_in("float32"):
        found = F.conv2d(images.cuda(), weight.cuda()).cpu().double()
    assert (found - exact).abs().max() < 1e-5 * exact.abs().max()
