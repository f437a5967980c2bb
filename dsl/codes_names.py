"""VD20x to VD22x: names of the study that refer to something, selectors, and kinds with their parameters."""

from vitdsl.dsl.code import Code

NAME_CODES = (
    Code(
        "VD201",
        "unknown name",
        """A field names a model, a layer, an ablation, a metric or a data entry that the study does not
        have. The field decides where the name is looked up: `of` in the models, `x` and `y` in the layers,
        `under` and `without` in the ablations.""",
        'layers:\n  blocks: {of: vti, at: "blocks.*"}',
        'layers:\n  blocks: {of: some_model, at: "blocks.*"}',
    ),
    Code(
        "VD202",
        "reserved name",
        """
        `baseline` is the intact model, which every study has, and cannot name an ablation. `own` is the
        preprocessing of each model, and cannot name a model.
        """,
        'ablations:\n  baseline: {kind: remove_skip, of: some_model, at: "blocks.*.attn"}',
        'ablations:\n  no_skip: {kind: remove_skip, of: some_model, at: "blocks.*.attn"}',
    ),
    Code(
        "VD203",
        "which data?",
        "A study with several data entries has each metric say which one it takes.",
        "data:\n  noise: {source: noise, images: 64}\nmetrics:\n  alike: {kind: cka, x: some_layers}",
        "data:\n  noise: {source: noise, images: 64}\nmetrics:\n  alike: {kind: cka, x: some_layers, data: noise}",
    ),
    Code(
        "VD204",
        "claim does not hold together",
        """`greater`, `less` and `close` compare `left` with `right`; `increasing` and `decreasing` take no
        `right`. `close` says how close with `by`. A range of `where` has an end, and its lower end first.
        `along` goes with slope, spearman, argmin, argmax, first and last.""",
        """
        claims:
          same: {say: Both agree., left: {metric: acc, value: top1}, is: close, right: 0.5}
        metrics:
          acc: {kind: accuracy, of: some_model, data: images}
        """,
        """
        claims:
          same: {say: Both agree., left: {metric: acc, value: top1}, is: close, right: 0.5, by: 0.01}
        metrics:
          acc: {kind: accuracy, of: some_model, data: images}
        """,
    ),
    Code(
        "VD205",
        "ablation of another model",
        """A metric looks at some models, and `under` narrows it to ablations of these; an ablation of any
        other model never happens there. In the same way `without` names ablations of the model that is
        trained.""",
        """
        models:
          vit: {arch: vit_tiny_patch16_224, options: {num_classes: 10}, weights: random}
        ablations:
          no_skip: {kind: remove_skip, of: vit, at: "blocks.*.attn"}
        metrics:
          acc: {kind: accuracy, of: some_model, under: no_skip, data: images}
        """,
        """
        models:
          vit: {arch: vit_tiny_patch16_224, options: {num_classes: 10}, weights: random}
        ablations:
          no_skip: {kind: remove_skip, of: vit, at: "blocks.*.attn"}
        metrics:
          acc: {kind: accuracy, of: vit, under: no_skip, data: images}
        """,
    ),
    Code(
        "VD207",
        "not a field to vary",
        """An axis of `vary` is the path of a field inside its own entry, with dots: `seed`,
        `train.fraction`, `options.depth`, or a parameter of the kind. `of`, `vary` and `train.recipe`
        cannot vary.""",
        "models:\n  vit: {arch: resnet18, weights: random, vary: {train.fracton: [0.1, 1.0]}}",
        """
        models:
          vit:
            arch: vit_tiny_patch16_224
            train: {data: {source: digits, split: train}}
            vary: {train.fraction: [0.1, 1.0]}
        """,
    ),
    Code(
        "VD208",
        "value twice in an axis",
        "Two equal values of an axis would be two conditions with one name.",
        "models:\n  vit: {arch: resnet18, weights: random, vary: {seed: [0, 1, 1]}}",
        "models:\n  vit: {arch: resnet18, weights: random, vary: {seed: [0, 1, 2]}}",
    ),
    Code(
        "VD209",
        "twice in a list",
        "A model, an ablation, a token or a coordinate is counted once, so naming it twice is a slip.",
        "metrics:\n  acc: {kind: accuracy, of: [some_model, some_model], data: images}",
        "metrics:\n  acc: {kind: accuracy, of: [some_model], data: images}",
    ),
    Code(
        "VD210",
        "selector matches nothing",
        """A selector that picks no site would leave an empty row in every figure, so it is an error. The
        help names the nearest sites. `vitdsl sites ARCH 'blocks.*'` shows what a selector picks.""",
        'layers:\n  attention: {of: some_model, at: "blocks.*.atn"}',
        'layers:\n  attention: {of: some_model, at: "blocks.*.attn"}',
    ),
    Code(
        "VD211",
        "selector cannot be read",
        """Selectors are dotted globs: `*` and `?` stay within one part, `**` stands alone and crosses
        parts, `[2-3]` is a range of single characters, `blocks[0:6]` and `blocks[-1]` count numbered
        children, `{attn,mlp}` are alternatives, a list is a union, and a leading `!` leaves out.""",
        'layers:\n  late: {of: some_model, at: "blocks.[6-11]"}',
        'layers:\n  late: {of: some_model, at: "blocks[6:12]"}',
    ),
    Code(
        "VD220",
        "unknown kind",
        """`kind` (for data: `source`) names what an entry does, and there is none of that name. `vitdsl
        list` shows those that are installed, plug-ins included.""",
        "metrics:\n  alike: {kind: ckaa, x: some_layers, data: images}",
        "metrics:\n  alike: {kind: cka, x: some_layers, data: images}",
    ),
    Code(
        "VD221",
        "bad parameter of a kind",
        """The kind does not take this parameter, lacks one, or takes another type. `vitdsl explain KIND`
        lists them.""",
        "metrics:\n  alike: {kind: cka, x: some_layers, data: images, kernal: rbf}",
        "metrics:\n  alike: {kind: cka, x: some_layers, data: images}",
    ),
    Code(
        "VD222",
        "input that the metric does not take",
        """A metric of models takes `of`, a metric of layers takes `x` and perhaps `y`. This one got an
        input that it does not take, or lacks one that it needs.""",
        "metrics:\n  acc: {kind: accuracy, data: images}",
        "metrics:\n  acc: {kind: accuracy, of: some_model, data: images}",
    ),
)
