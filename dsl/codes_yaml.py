"""VD0xx: the file itself."""

from vitdsl.dsl.code import Code

YAML_CODES = (
    Code(
        "VD001",
        "file cannot be read",
        "The study file is not there, is not a file, or may not be read. Paths start at the current folder.",
        "vitdsl check skip_ablaton.yaml",
        "vitdsl check skip_ablation.yaml",
        language="shell",
    ),
    Code(
        "VD002",
        "file too large or too deep",
        """A study file has at most 1 MiB, 10,000 values and 32 levels. Aliases count each time they are
        used, so that a small file cannot become a large one. Split the study, or use `each: true` and
        `vary:` instead of writing entries out.""",
        "x-deep: [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]",
        "x-deep: [1]",
    ),
    Code("VD003", "file is not UTF-8", "A study file is text in UTF-8. Save it so in your editor."),
    Code(
        "VD004",
        "not YAML",
        """The text breaks a rule of YAML: something is not closed, not indented alike, or needs quotes.
        Texts that contain `: ` or ` #`, or start with one of `*&!@%|>[]{}` or a backtick, need quotes. So
        does every selector that starts with `*` or `!`.""",
        "title: Skips: what they carry",
        'title: "Skips: what they carry"',
    ),
    Code(
        "VD005",
        "tab in the indentation",
        "YAML is indented with spaces. Let your editor replace tabs in YAML files.",
        "models:\n\tvit: {arch: vit_tiny_patch16_224, weights: random}",
        "models:\n  vit: {arch: vit_tiny_patch16_224, weights: random}",
    ),
    Code(
        "VD006",
        "key appears twice",
        """Most YAML readers keep the last of two equal keys and say nothing, and half an experiment is
        lost. Here a key stands once in its mapping.""",
        """
        models:
          vit: {arch: vit_tiny_patch16_224, weights: random}
          vit: {arch: resnet18, weights: random}
        """,
        """
        models:
          vit: {arch: vit_tiny_patch16_224, weights: random}
          resnet: {arch: resnet18, weights: random}
        """,
    ),
    Code(
        "VD007",
        "tag or directive",
        """A study is data. Tags (`!!python/object`, `!include`) and directives (`%YAML 1.1`) are refused,
        so that a study from a stranger is safe to open.""",
        "seed: !!int 3",
        "seed: 3",
    ),
    Code(
        "VD008",
        "merge key",
        """`<<` is not part of YAML 1.2. Use `extends: ./base.yaml` to share between files. Within a file an
        anchor and its alias share a whole value: `&name` and `*name`.""",
        """
        x-shared: &small {arch: vit_tiny_patch16_224}
        models:
          vit: {<<: *small, weights: random}
        """,
        """
        x-shared: &small {img_size: 32, patch_size: 4}
        models:
          vit: {arch: vit_tiny_patch16_224, options: *small, weights: random}
        """,
    ),
    Code(
        "VD009",
        "more than one document",
        "A file holds one study; `---` starts a second document. Put it into a file of its own.",
        "seed: 1\n---\nseed: 2",
        "seed: 1",
    ),
    Code(
        "VD010",
        "key is not a text",
        "Keys are texts. Quote one that looks like a number, a truth value or null.",
        "models:\n  vit: {arch: vit_tiny_patch16_224, weights: random, options: {1: 2}}",
        'models:\n  vit: {arch: vit_tiny_patch16_224, weights: random, options: {"1": 2}}',
    ),
    Code(
        "VD011",
        "not a finite number",
        """Infinities, NaN and numbers of hundreds of digits have no place in a study. Null leaves a range
        open.""",
        "seed: .inf",
        "seed: 1",
    ),
    Code(
        "VD012",
        "control character",
        """Characters that a terminal acts on are refused wherever they stand, also as escapes in quotes: a
        name must not be able to repaint the screen of its reader.""",
        r'title: "\e[31mred"',
        "title: red",
    ),
    Code(
        "VD013",
        "alias without an anchor",
        "An alias `*name` repeats what was written above it at `&name`, and cannot stand inside that.",
        "x-small: &small {img_size: 32}\nmodels:\n  vit: {arch: resnet18, weights: random, options: *smal}",
        "x-small: &small {img_size: 32}\nmodels:\n  vit: {arch: resnet18, weights: random, options: *small}",
    ),
    Code(
        "VD014",
        "not a study",
        """A study file is a mapping that starts with `vitdsl: 1` and `study: its_name`. This one is empty,
        a list, or a training recipe.""",
        "- accuracy\n- cka",
        "metrics:\n  acc: {kind: accuracy, of: some_model, data: images}",
    ),
    Code(
        "VD015",
        "cannot extend",
        """`extends` names one file by a relative path. It must lie in the same project (the nearest folder
        above with a pyproject.toml or .git, otherwise the study's own folder), the chain has at most 4
        files, and no file extends itself.""",
        "extends: ./no_such_file.yaml",
        "extends: ./base.yaml",
    ),
    Code(
        "VD016",
        "override is not `path=value`",
        """`--set` takes the path of a field with dots, `=`, and a value. A part of the path that contains a
        dot is quoted. A value that starts with `[`, `{` or a quote is YAML; anything else is one text or
        number as it stands.""",
        "vitdsl run study.yaml --set seed:3",
        "vitdsl run study.yaml --set seed=3 --set 'models.vit.vary.\"train.fraction\"=[0.1, 1.0]'",
        language="shell",
    ),
    Code(
        "VD017",
        "no such recipe",
        """`recipe:` names a training recipe that comes with the program, or a file of your own that starts
        with `./`. A recipe file has `vitdsl: 1`, `recipe: its_name` and `train:`; it cannot name another
        recipe.""",
        "models:\n  vit: {arch: vit_tiny_patch16_224, train: {recipe: no_such_recipe}}",
        "models:\n  vit: {arch: vit_tiny_patch16_224, train: {recipe: digits_vit, epochs: 5}}",
    ),
    Code(
        "VD018",
        "override of an entry that is not there",
        """`--set models.vti.seed=1` would make a new model by a slip of the finger, so the entry has to be
        there. A new entry is set as a whole: `--set 'models.vti={arch: ..., weights: random}'`.""",
        "vitdsl run study.yaml --set models.vti.seed=1",
        "vitdsl run study.yaml --set models.vit.seed=1",
        language="shell",
    ),
)
