"""Which rule tells how axes go through which of PyTorch's operations, by the names that ATen gives them.

What no rule knows keeps nothing but its images. Does not own the rules (`view_rules`, `value_rules`), or who asks them
(`flow`).
"""

from collections.abc import Callable

from vitdsl.runtime.graph import value_rules as values
from vitdsl.runtime.graph import view_rules as views
from vitdsl.runtime.graph.axes import size_of
from vitdsl.runtime.graph.calls import Call, lost
from vitdsl.runtime.graph.meaning import Meaning, fixed

Rule = Callable[[Call], Meaning]
OPERATIONS: dict[Rule, str] = {
    values.same: """clone _to_copy alias detach lift_fresh cumsum cumprod hardswish hardswish_ tril triu _log_softmax
        _prelu_kernel nan_to_num""",
    values.written: "copy_",
    values.normed: """native_layer_norm native_group_norm native_batch_norm cudnn_batch_norm native_dropout
        _native_batch_norm_legit_no_training _native_batch_norm_legit _fused_rms_norm""",
    values.reduced: """mean sum amax amin max min var std var_mean linalg_vector_norm prod any all logsumexp argmax
        norm""",
    values.softmaxed: "_softmax _safe_softmax",
    values.multiplied: "mm addmm bmm baddbmm",
    values.convolved: "convolution",
    values.pooled: "avg_pool1d avg_pool2d max_pool2d_with_indices",
    values.resized: """_adaptive_avg_pool2d adaptive_max_pool2d upsample_nearest2d upsample_bilinear2d
        upsample_bicubic2d _upsample_bilinear2d_aa _upsample_bicubic2d_aa""",
    values.columns: "im2col",
    values.from_columns: "col2im",
    values.unfolded: "unfold",
    views.viewed: "view _unsafe_view reshape _reshape_alias squeeze squeeze_",
    views.permuted: "permute",
    views.transposed: "t transpose",
    views.unsqueezed: "unsqueeze unsqueeze_",
    views.expanded: "expand repeat",
    views.sliced: "slice",
    views.selected: "select unbind",
    views.split_off: "split split_with_sizes",
    views.concatenated: "cat",
    views.indexed: "index",
    views.stacked: "stack",
    views.rolled: "roll",
    views.padded: "constant_pad_nd reflection_pad1d reflection_pad2d replication_pad2d",
}
RULES: dict[str, Rule] = {name: rule for rule, names in OPERATIONS.items() for name in names.split()}


def meaning_of(call: Call) -> Meaning:
    """What is known of what an operation gave."""
    meanings = call.tensors
    names = tuple(dict.fromkeys(name for one in meanings for name in one.names))
    rule = RULES.get(call.name) or (values.pointwise if call.pointwise else None)
    found = rule(call) if rule is not None and meanings else None
    if found is None or tuple(map(size_of, found.axes)) != call.shape:
        return lost(call) if any(one.images for one in meanings) else fixed(call.shape, names)
    return found
