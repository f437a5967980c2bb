"""The laws that every kind obeys, for whoever writes one: in this program or in a plugin.

    from vitdsl import testing

    testing.check_ablation(MyAblation(Params(factor=0.5)))
    testing.check_source(MySource, {"total": 20}, folder=tmp_path)

    site = testing.tokens_site("blocks.0.mlp", count=17, width=8)
    stream = testing.Stream({"baseline": ([(tensor,)], None)})
    testing.check_metric(testing.group_of(KIND, [site]), stream, {"value": wanted}, batch=4, any_batches=True,
                         tolerance=1e-12)

A broken law raises `LawBroken`, an AssertionError whose text starts with the law's name, so that any test runner
will do. Does not own what a kind is (`runtime.metrics._base`, `runtime.ablations._base`,
`runtime.data.sources._base`) or how kinds are found (`runtime.kinds`).
"""

from vitdsl.testing.ablation import SMALL_VIT, check_ablation
from vitdsl.testing.law import LawBroken
from vitdsl.testing.metric import check_metric
from vitdsl.testing.page import check_page
from vitdsl.testing.source import check_source
from vitdsl.testing.streams import Stream, group_of, run, tokens_site, vector_site

__all__ = [
    "SMALL_VIT",
    "LawBroken",
    "Stream",
    "check_ablation",
    "check_metric",
    "check_page",
    "check_source",
    "group_of",
    "run",
    "tokens_site",
    "vector_site",
]
