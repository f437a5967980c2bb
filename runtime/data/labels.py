"""Labels of images against the classes that a model predicts.

Does not own: how a source finds its labels (`sources/_base`).
"""

from collections.abc import Sequence

from vitdsl.dsl.diagnostics import Diagnostic, StudyError
from vitdsl.dsl.study import Data
from vitdsl.dsl.text import counted, shown
from vitdsl.runtime.data.label_sets import first_elsewhere, label_set, named_outputs
from vitdsl.runtime.data.stream import Stream

MOST_NAMES = 5
"""Names of classes that a message shows."""


def check_labels(
    stream: Stream,
    num_classes: int,
    model_name: str,
    *,
    needed_by: str = "",
    leave_out: str = "this metric",
    made: bool = False,
    of: str | None = None,
) -> None:
    """Make sure that a stream's labels are those that a model predicts.

    Args:
        stream: The images.
        num_classes: How many classes the model predicts.
        model_name: The model's name, for the message.
        needed_by: What needs labels, for the message; empty for the model's accuracy.
        leave_out: What to do without, for the help.
        made: Whether the model comes with a head, see `check_classes`.
        of: The label set of this head.

    Raises:
        StudyError: The stream has no labels (VD241), or another number of classes (VD404).
    """
    who = needed_by or f"accuracy of `{model_name}`"
    check_labelled(stream.labelled, who, f"source `{stream.data.source}`", leave_out)
    check_classes(stream.data, stream.classes or (), num_classes, model_name, made=made, of=of)


def check_labelled(labelled: bool, who: str, whose: str, leave_out: str = "this metric") -> None:
    """Make sure that images have labels.

    Args:
        labelled: Whether they have.
        who: What needs labels, for the message.
        whose: Whose images they are, for the message.
        leave_out: What to do without, for the help.

    Raises:
        StudyError: They have none (VD241).
    """
    if not labelled:
        raise StudyError(
            Diagnostic(
                "VD241",
                f"{who} needs labels, and the images of {whose} have none",
                label="needs labels",
                help=(f"take images in class folders or a source with labels, or leave {leave_out} out",),
                about=(("kind",),),
            )
        )


def check_classes(
    data: Data,
    classes: Sequence[str],
    num_classes: int,
    model_name: str,
    *,
    made: bool = False,
    of: str | None = None,
    outputs: Sequence[str] = (),
) -> None:
    """Make sure that the classes of some images are as many as a model predicts, and in its order where that is known.

    Args:
        data: The entry of the images.
        classes: Their names, in label order.
        num_classes: How many the model predicts.
        model_name: The model's name, for the message.
        made: Whether the model comes with a head that was trained elsewhere, so that another one would be random.
        of: The label set that its head was trained on, where it is known.
        outputs: The names of its outputs, where the config of its weights has them.

    Raises:
        StudyError: They are not (VD404).
    """
    targets = label_set(of) if of is not None else None
    if targets is None and len(outputs) == num_classes:
        targets = named_outputs(tuple(outputs))
    elsewhere = first_elsewhere(classes, targets) if targets and len(classes) == num_classes else None
    if targets and elsewhere:
        place, output = elsewhere
        raise StudyError(
            Diagnostic(
                "VD404",
                f"class {place} of source `{data.source}` is `{shown(classes[place])}`, and that is output {output} of "
                f"model `{model_name}` ({targets.title(output)})",
                help=(
                    f"write `labels: {{to: {of}}}` to map the classes by their names"
                    if of is not None
                    else "write the names of its outputs to a file, one a line, and `labels: {classes: ./classes.txt}`",
                ),
            )
        )
    if len(classes) != num_classes:
        imagenet = all(is_wordnet_id(name) for name in classes)
        raise StudyError(
            Diagnostic(
                "VD404",
                f"source `{data.source}` has {_named(classes)}, model `{model_name}` predicts {num_classes}",
                help=_other_classes(len(classes), imagenet and num_classes == 1000, made),
            )
        )


def _other_classes(count: int, imagenet: bool, made: bool) -> tuple[str, ...]:
    """What to write where images have so many classes, and a model predicts another number."""
    if imagenet:
        return ("write `labels: imagenet`: the classes are named by WordNet ids",)
    options = f"`options: {{num_classes: {count}}}`"
    if not made:
        return (f"write {options}, for a model that is trained here or an untrained control",)
    return (
        "its weights were made for other classes, and a head of another size would be random",
        "where these images show some of its classes, say which: `labels: {to: imagenet-1k}` for names and WordNet ids "
        "of ImageNet, or `labels: {classes: ./classes.txt}` with the names of its outputs, one a line",
        f"train one on these images: {options} and `train: {{data: ...}}` beside `weights`",
        "or measure features instead: `kind: linear_probe` with layers of this model",
    )


def _named(classes: Sequence[str]) -> str:
    """How many classes there are, and the first of them."""
    first = ", ".join(f"`{shown(name)}`" for name in classes[:MOST_NAMES])
    return (
        f"{counted(len(classes), 'class', 'classes')} ({first}{', ...' if len(classes) > MOST_NAMES else ''})"
    )


def check_same_classes(
    classes: Sequence[str], learned: Sequence[str], who: str, data: str, over: str
) -> None:
    """Make sure that the classes of some images are those of the images that something was fitted to.

    Args:
        classes: Of the images that are measured, in label order.
        learned: Of the images of the fit.
        who: What was fitted, for the message.
        data: The data entry that is measured.
        over: The data entry of the fit.

    Raises:
        StudyError: They are not (VD246).
    """
    if tuple(classes) == tuple(learned):
        return
    if len(classes) != len(learned):
        alone = [name for name in (*learned, *classes) if (name in learned) is not (name in classes)]
        where = (
            f": `{shown(alone[0])}` is in `{over if alone[0] in learned else data}` alone" if alone else ""
        )
        differ = f"`{over}` has {len(learned)} classes, and `{data}` has {len(classes)}{where}"
    else:
        at = next(i for i, (one, other) in enumerate(zip(classes, learned, strict=True)) if one != other)
        differ = f"class {at} is `{learned[at]}` in `{over}`, and `{classes[at]}` in `{data}`"
    raise StudyError(
        Diagnostic(
            "VD246",
            f"{who} learns other classes than it is measured on: {differ}",
            label="learns from others",
            help=(f"take images of the same classes, such as another part of the source of `{data}`",),
            about=(("kind",),),
        )
    )


def is_wordnet_id(name: str) -> bool:
    """Whether a folder's name looks like an ImageNet class, such as `n01440764`."""
    return len(name) == 9 and name[0] == "n" and name[1:].isdigit()
