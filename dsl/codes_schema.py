"""VD1xx: fields and their values."""

from vitdsl.dsl.code import Code

SCHEMA_CODES = (
    Code(
        "VD101",
        "missing key",
        "A required field is not there. `vitdsl schema` lists the fields of every entry.",
        "data:\n  test: {split: test}",
        "data:\n  test: {source: digits, split: test}",
    ),
    Code(
        "VD102",
        "wrong type",
        """Values are not converted: a text is not a number, and 1 is not true. The usual slips: `no` and
        `on` are texts in YAML 1.2 (write `false`, `true`); a version such as 3.10 is the number 3.1 unless
        it is quoted; numbers have no units and no underscores.""",
        "models:\n  vit: {arch: vit_tiny_patch16_224, weights: random, seed: '3'}",
        "models:\n  vit: {arch: vit_tiny_patch16_224, weights: random, seed: 3}",
    ),
    Code(
        "VD103",
        "unknown key",
        """A key that nothing reads is an error and not a warning, for it is usually a misspelt field whose
        default would be used without a word. Notes of your own go under top-level keys that start with
        `x-`.""",
        "models:\n  vit: {arch: vit_tiny_patch16_224, wieghts: random}",
        "models:\n  vit: {arch: vit_tiny_patch16_224, weights: random}\nx-note: anything goes here",
    ),
    Code(
        "VD104",
        "not one of the values",
        "The field takes one of a few words, and this is none of them.",
        "models:\n  vit: {arch: vit_tiny_patch16_224, weights: imagenet}",
        "models:\n  vit: {arch: vit_tiny_patch16_224, weights: pretrained}",
    ),
    Code(
        "VD105",
        "number out of range",
        "The number has the right type and no sense here, such as a share above 1.",
        "models:\n  vit: {arch: resnet18, train: {data: {source: digits, split: train}, fraction: 10}}",
        "models:\n  vit: {arch: resnet18, train: {data: {source: digits, split: train}, fraction: 0.1}}",
    ),
    Code(
        "VD106",
        "not a name",
        """Names of a study, its models, layers, metrics and so on are lower case letters, digits and
        underscores, with a letter first and at most 64 characters. They name files, coordinates and
        columns.""",
        "models:\n  ViT-S: {arch: vit_small_patch16_224, weights: random}",
        "models:\n  vit_s: {arch: vit_small_patch16_224, weights: random}",
    ),
    Code(
        "VD107",
        "too few or too many items",
        "A section, a list or an axis is empty, or a pair does not have two numbers.",
        "models:\n  vit: {arch: resnet18, weights: random, vary: {seed: []}}",
        "models:\n  vit: {arch: resnet18, weights: random, vary: {seed: [0, 1]}}",
    ),
    Code(
        "VD108",
        "another version of the language",
        """`vitdsl: 1` says which version of the language a file is written in. This program reads version
        1; a file with a newer one needs a newer program.""",
        "vitdsl: 2",
        "vitdsl: 1",
    ),
    Code(
        "VD111",
        "model without weights",
        """Nothing is assumed about weights: a model says `weights: pretrained`, `weights: random`, a file,
        a hub repository, or how it is trained with `train:`.""",
        "models:\n  vit: {arch: vit_tiny_patch16_224}",
        "models:\n  vit: {arch: vit_tiny_patch16_224, weights: pretrained}",
    ),
    Code(
        "VD112",
        "model that is nothing, or two things",
        """A model says what it is with one field: `arch`, an architecture, `given: true`, a module that is
        handed over in Python, or `features`, a file of features. Options, weights and training belong to
        an architecture.""",
        "models:\n  mine: {given: true, weights: random}",
        "models:\n  mine: {given: true}",
    ),
)
