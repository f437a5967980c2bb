"""VD23x to VD3xx: what only the models and the data can tell: architectures, sites, labels, and what is measured."""

from vitdsl.dsl.code import Code

BOUND_CODES = (
    Code(
        "VD230",
        "unknown architecture",
        "timm has no architecture of this name. `vitdsl list models 'vit_*'` shows those that it has.",
        "models:\n  vit: {arch: vit_tini_patch16_224, weights: random}",
        "models:\n  vit: {arch: vit_tiny_patch16_224, weights: random}",
    ),
    Code(
        "VD231",
        "option that the architecture does not take",
        "`options` go to timm's `create_model`, and this architecture takes no option of this name or value.",
        "models:\n  vit: {arch: vit_tiny_patch16_224, options: {image_size: 32}, weights: random}",
        "models:\n  vit: {arch: vit_tiny_patch16_224, options: {img_size: 32}, weights: random}",
    ),
    Code(
        "VD232",
        "weights are not those of the architecture",
        """
        timm has no pretrained weights for this architecture, or the hub repository holds those of
        another one, or was made with options that the study does not name.
        """,
        "models:\n  vit: {arch: vit_tiny_patch16_224, weights: {hub: timm/resnet18.a1_in1k}}",
        "models:\n  resnet: {arch: resnet18, weights: {hub: timm/resnet18.a1_in1k}}",
    ),
    Code(
        "VD233",
        "input size that the model does not take",
        """
        The position embedding or the windows of the model fix its input when it is built. Build it for
        another size with `options: {img_size: ...}`; `input_size` is for models that take any.
        """,
        "models:\n  vit: {arch: vit_tiny_patch16_224, weights: random, input_size: 96}",
        "models:\n  vit: {arch: vit_tiny_patch16_224, weights: random, options: {img_size: 96}}",
    ),
    Code(
        "VD234",
        "shared preprocessing does not fit a model",
        """
        `preprocess` names a model whose preprocessing all models share, and another model takes images
        of another size. Build both for one size, or let each use its own.
        """,
    ),
    Code(
        "VD240",
        "role not there at a site",
        """Every site has an output; `stream`, `branch` and `skip` need a residual unit, `attention` and
        `heads` an attention module. `vitdsl sites ARCH 'blocks.*' --role branch` shows where a role is.""",
        'layers:\n  maps: {of: some_model, at: "blocks.*.mlp", role: attention}',
        'layers:\n  maps: {of: some_model, at: "blocks.*.attn", role: attention}',
    ),
    Code(
        "VD241",
        "labels needed",
        "The metric compares with labels, and this data has none. A folder of class folders has.",
        """
        data:
          noise: {source: noise, images: 64}
        metrics:
          acc: {kind: accuracy, of: some_model, data: noise}
        """,
        """
        data:
          noise: {source: noise, images: 64, classes: 10}
        metrics:
          acc: {kind: accuracy, of: some_model, data: noise}
        """,
    ),
    Code(
        "VD242",
        "tokens not there at a site",
        """`tokens: cls` needs a class token and `tokens: spatial` a grid of tokens at every site. A ResNet,
        and a ViT with global average pooling, has no class token.""",
        """
        models:
          resnet: {arch: resnet18, weights: random}
        layers:
          stages: {of: resnet, at: "layer*.*", tokens: cls}
        metrics:
          alike: {kind: cka, x: stages, data: images}
        """,
        """
        models:
          resnet: {arch: resnet18, weights: random}
        layers:
          stages: {of: resnet, at: "layer*.*"}
        metrics:
          alike: {kind: cka, x: stages, data: images}
        """,
    ),
    Code(
        "VD243",
        "more images than there are",
        """
        `images` asks for more than the source holds. A study that says 1,000 and uses 600 would be
        misread, so it is an error; leave `images` out to take all.
        """,
        "data:\n  images: {source: digits, split: test, images: 100000}",
        "data:\n  images: {source: digits, split: test, images: 512}",
    ),
    Code(
        "VD244",
        "labels are not classes",
        """
        The labels of the data cannot be read as classes: images lie outside the class folders, a folder
        is not a class of the named label set, or the label field does not hold class numbers.
        """,
    ),
    Code(
        "VD245",
        "stream without a size",
        """
        A streamed data set can be neither counted nor shuffled, so the study says how many of its first
        images to hold with `first: N`.
        """,
    ),
    Code(
        "VD246",
        "learned from other classes",
        """
        The metric learns from images of one data entry and is measured on those of another, and these
        have other classes, or the same in another order. Its answers would mean something else there.
        """,
        """
        data:
          images: {source: digits, split: test}
          train: {source: noise, images: 64, classes: 5}
        layers:
          pooled: {of: some_model, at: "blocks.*", tokens: mean}
        metrics:
          probe: {kind: linear_probe, x: pooled, train: train, data: images}
        """,
        """
        data:
          images: {source: digits, split: test}
          train: {source: digits, split: train}
        layers:
          pooled: {of: some_model, at: "blocks.*", tokens: mean}
        metrics:
          probe: {kind: linear_probe, x: pooled, train: train, data: images}
        """,
    ),
    Code(
        "VD247",
        "images that do not stand beside one another",
        """A data entry that is `of` another stands beside it image by image: in the same order, of the same names. It
        takes over `images`, `batch`, `shuffle` and `seed`, and a metric compares the two with `against`.""",
        """
        data:
          blurred: {of: images, transform: {kind: blur, strength: 0.05}}
          noise: {source: noise, total: 64, classes: 10}
        metrics:
          some_metric: {data: noise}
          moved: {kind: cka, x: some_layers, data: noise, against: images}
        """,
        """
        data:
          blurred: {of: images, transform: {kind: blur, strength: 0.05}}
        metrics:
          some_metric: {data: images}
          moved: {kind: cka, x: some_layers, data: blurred, against: images}
        """,
    ),
    Code(
        "VD250",
        "claim about nothing",
        """A claim reads a value of a metric at some coordinates, and one of these is not there: the metric
        has no such value, or no such coordinate, or nothing is left. `vitdsl explain KIND` lists the values
        and coordinates.""",
        """
        claims:
          good: {say: It is good., left: {metric: some_metric, value: top_1}, is: greater, right: 0.9}
        """,
        """
        claims:
          good: {say: It is good., left: {metric: some_metric, value: top1}, is: greater, right: 0.9}
        """,
    ),
    Code(
        "VD251",
        "unknown optimizer",
        "timm's optimizer factory has no optimizer of this name. The message lists those that it has.",
        "models:\n  vit: {arch: resnet18, train: {data: {source: digits, split: train}, optimizer: adamv}}",
        "models:\n  vit: {arch: resnet18, train: {data: {source: digits, split: train}, optimizer: adamw}}",
    ),
    Code(
        "VD252",
        "augmentation that timm does not take",
        "The policy of `augment` is not written as timm writes it, such as `rand-m9-mstd0.5-inc1`.",
    ),
    Code(
        "VD253",
        "nothing to train on",
        "`train` needs images: `data:` of its own, or a recipe that has them.",
        "models:\n  vit: {arch: vit_tiny_patch16_224, train: {epochs: 5}}",
        """
        models:
          vit: {arch: vit_tiny_patch16_224, train: {data: {source: digits, split: train}, epochs: 5}}
        """,
    ),
    Code(
        "VD260",
        "too many conditions",
        """The sweeps of the study make more conditions than its `max_conditions` allows. Raise it where
        that is meant; `vitdsl plan` shows the count and the cost.""",
        "models:\n  vit: {arch: resnet18, weights: random, vary: {seed: [0, 1, 2, 3]}}\nmax_conditions: 3",
        "models:\n  vit: {arch: resnet18, weights: random, vary: {seed: [0, 1, 2, 3]}}\nmax_conditions: 8",
    ),
    Code(
        "VD270",
        "model that is not handed over",
        """`given: true` stands for a module that Python hands over:
        `vitdsl.run("study.yaml", models={"mine": module})`. The command line has none. A study names no code
        but that of installed packages: one that has an entry point of the group `vitdsl.models`, such as
        `mine = "package.module:function"`, offers its function to `arch: package.module:function`.""",
        "models:\n  mine: {given: true}",
        "models:\n  mine: {arch: resnet18, weights: random}",
    ),
    Code(
        "VD271",
        "module that the study does not take",
        """What is handed over in Python as a model or its transform is no such thing, or the study has no
        model `given: true` of this name.""",
    ),
    Code(
        "VD301",
        "model cannot be traced",
        """What is read or changed is found in the graph of the model, which is made by following its program on the
        sizes of images of its `input_size`. Sizes may decide what the program does; the numbers in a tensor, the
        number of images and the kind of device may not. The message names the line that is in the way. Such a model is
        read by hooks on its modules, and only one that cannot be read so, either, is refused: what it gives of an image
        must be the image's own, whatever others are in the batch. Of a library, another model may do; in a module of
        your own, change that line, or wrap it in a module that gives one tensor.""",
    ),
    Code(
        "VD302",
        "metric not defined for a model",
        "The metric needs something that the model does not have, such as attention. The message says what.",
        """
        models:
          resnet: {arch: resnet18, weights: random}
        metrics:
          distance: {kind: attention_distance, of: resnet, data: images}
        """,
        "metrics:\n  distance: {kind: attention_distance, of: some_model, data: images}",
    ),
    Code(
        "VD303",
        "too much is kept in memory",
        """A metric that needs all images at once keeps numbers of each of them, and one that learns from
        images keeps sums that grow with the square of its features. These would not fit in memory. Take
        fewer images, sites, tokens or conditions; `vitdsl plan` prints the memory.""",
    ),
    Code(
        "VD304",
        "answers of a fresh head",
        """A checkpoint leaves parameters of the model at random, most often its head, which `num_classes` made for
        other classes than those it was trained on. Answers behind them are random, and a metric that reads them is
        refused. Metrics of layers before them are not. `weights: random` asks for an untrained control.""",
        """
        models:
          resnet: {arch: resnet18.a1_in1k, options: {num_classes: 10}, weights: pretrained}
        metrics:
          acc: {kind: accuracy, of: resnet}
        """,
        """
        models:
          resnet: {arch: resnet18.a1_in1k, options: {num_classes: 10}, weights: pretrained}
        layers:
          stages: {of: resnet, at: "layer*.*"}
        metrics:
          acc: {kind: cka, x: stages}
        """,
    ),
    Code(
        "VD305",
        "nothing can be changed in a model that is read by hooks",
        """The program of the model cannot be followed, for the reason that the message gives with its line. Then it
        has no graph in which something could be replaced: what its modules take and return can be read while it runs,
        and no more. Change that line, so that no number of a tensor decides, or ablate another model.""",
    ),
)
