"""Labels of the files of a folder: which class each file is given, and which output of a model that class is.

Owns the two steps. A file's class is the first folder of its path, or what a CSV says. Its label is the place of that
class among the classes: those given in order (numbers as numbers), a list from a file, or a label set that timm knows.
Does not own which files there are (`_folder_files`).
"""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Discriminator, Field, Tag

from vitdsl.dsl.diagnostics import Diagnostic, EnvironmentProblem, StudyError
from vitdsl.dsl.study import Entry
from vitdsl.dsl.text import counted, did_you_mean, near_files, ticked
from vitdsl.dsl.words import Words
from vitdsl.runtime.data.label_sets import LabelSet, Targets, label_set
from vitdsl.runtime.paths import expanded

MOST_SHOWN = 5
"""Lines of a mapping that are shown."""
COLUMNS = ("file", "label")
ABOUT = (("labels",), ("path",))
IMAGENET: LabelSet = "imagenet-1k"


class Labels(Entry):
    """How the classes of images become labels."""

    in_words: ClassVar[Words] = Words("`labels`", home="`data.<name>.labels`", example="{to: imagenet-1k}")

    csv: str | None = Field(
        default=None,
        description="A CSV file with the columns `file` and `label`; null: the folders are the classes.",
    )
    to: LabelSet | None = Field(
        default=None, description="Whose classes: a label set of timm's; by WordNet id, name or number."
    )
    classes: str | None = Field(
        default=None, description="A text file with one class a line, in the order of the model's outputs."
    )
    outputs: dict[str, int | str] | None = Field(
        default=None,
        description="For classes that are called otherwise: the number or name of the model's output.",
    )
    only: list[str] | None = Field(
        default=None, min_length=1, description="Take images of these classes alone."
    )


AnyLabels = Annotated[
    Annotated[Literal["folders", "imagenet", "none"], Tag("labels.name")]
    | Annotated[Labels, Tag("labels.map")],
    Discriminator(lambda value: "labels.map" if isinstance(value, (dict, Labels)) else "labels.name"),
]


@dataclass(frozen=True)
class Labelled:
    """The files that are taken, and their labels.

    Attributes:
        files: Their paths.
        labels: The label of each; None without labels.
        classes: Names of the classes in label order; None without labels.
        shown: How the classes were mapped, line by line; empty where they are in the order of their names.
    """

    files: list[str]
    labels: list[int] | None = None
    classes: tuple[str, ...] | None = None
    shown: tuple[str, ...] = ()


def labelled(files: list[str], wanted: str | Labels, written: str, folder: Path) -> Labelled:
    """The labels of some files.

    Args:
        files: Their paths below the folder of images.
        wanted: The field `labels`.
        written: The folder as the study names it, for messages.
        folder: Where relative paths start: the study's folder.

    Raises:
        StudyError: They cannot be read as classes (VD244).
        EnvironmentProblem: A file of labels is not there (VD401).
    """
    if wanted == "none" or (wanted == "folders" and not any("/" in file for file in files)):
        return Labelled(files)
    asked = wanted if isinstance(wanted, Labels) else Labels(to=IMAGENET if wanted == "imagenet" else None)
    given = _of_csv(files, asked.csv, folder) if asked.csv else _of_folders(files, written)
    if asked.only is not None:
        _known(asked.only, given, "`only` names")
        kept = [i for i, name in enumerate(given) if name in asked.only]
        files, given = [files[i] for i in kept], [given[i] for i in kept]
    if asked.outputs:
        _known(asked.outputs, given, "`outputs` names")
    there = in_order(given)
    if asked.to is None and asked.classes is None and not asked.outputs:
        position = {name: index for index, name in enumerate(there)}
        return Labelled(files, [position[name] for name in given], there)
    targets = _targets(asked, there, folder)
    label = _resolved_all(there, asked, targets, written)
    first = [f"`{name}` is {label[name]} ({targets.title(label[name])})" for name in there[:MOST_SHOWN]]
    more = f"; and {len(there) - MOST_SHOWN:,} more" if len(there) > MOST_SHOWN else ""
    head = f"{counted(len(there), 'class', 'classes')} of {len(targets.names):,} of {targets.what}"
    shown = (f"labels: {head}: " + "; ".join(first) + more,)
    return Labelled(files, [label[name] for name in given], targets.names, shown)


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Names, each once, sorted: as numbers where all of them are (0, 1, ... 10), as texts otherwise."""
    once = set(names)
    numbers = all(name.isdecimal() for name in once)
    return tuple(sorted(once, key=lambda name: (int(name), name) if numbers else (0, name)))


def _of_folders(files: list[str], written: str) -> list[str]:
    """The first folder of each path."""
    loose = [file for file in files if "/" not in file]
    if loose:
        raise _wrong(
            f"`{written}` holds {counted(len(files) - len(loose), 'image')} in sub-folders and "
            f"{len(loose)} outside (such as `{loose[0]}`), where there is no class",
            "move them into the folders of their classes, or write `labels: none`",
            "or say the class of each image in a file: `labels: {csv: ./labels.csv}` with the columns `file,label`",
        )
    return [file.partition("/")[0] for file in files]


def _of_csv(files: list[str], name: str, folder: Path) -> list[str]:
    """What a CSV says of each file."""
    found: dict[str, str] = {}
    with _file(name, folder, "csv").open(newline="", encoding="utf-8-sig") as stream:
        rows = csv.DictReader(stream, skipinitialspace=True)
        columns = rows.fieldnames or ()
        if not set(COLUMNS) <= set(columns):
            raise _wrong(
                f"`{name}` has the columns {ticked(columns) or 'of no header'}, not `file` and `label`",
                "write a first line `file,label`, then one line for each image, its path below the folder first",
                field="csv",
            )
        for row in rows:
            file, label = (str(row[column] or "").strip() for column in COLUMNS)
            if not label or found.get(file, label) != label:
                other = f"the labels `{found[file]}` and `{label}`" if label else "no label"
                raise _wrong(f"`{name}` gives `{file}` {other}", "give each image one label", field="csv")
            found[file] = label
    lacking = [file for file in files if file not in found]
    if lacking:
        near = did_you_mean(lacking[0], [one for one in found if one.endswith(lacking[0].rpartition("/")[2])])
        raise _wrong(
            f"`{name}` has no label for {len(lacking):,} of {counted(len(files), 'image')}, such as `{lacking[0]}`; "
            f"its first file is `{next(iter(found), '')}`",
            near,
            "write each path as it is below the folder of images, with slashes",
            field="csv",
        )
    return [found[file] for file in files]


def _targets(asked: Labels, there: tuple[str, ...], folder: Path) -> Targets:
    """The classes that labels are of, in their order."""
    if asked.to is not None and asked.classes is not None:
        raise _wrong("`to` and `classes` both say which classes there are", "leave one out", field="classes")
    if asked.to is not None:
        return label_set(asked.to)
    if asked.classes is not None:
        lines = _file(asked.classes, folder, "classes").read_text(encoding="utf-8-sig").splitlines()
        names = tuple(line.strip() for line in lines if line.strip())
        twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
        if twice is not None:
            raise _wrong(
                f"`{asked.classes}` has the class `{twice}` twice", "name each once", field="classes"
            )
        position = {name: (index,) for index, name in enumerate(names)}
        return Targets(names, f"`{asked.classes}`", lambda name: position.get(name, ()), lambda i: names[i])
    outputs = asked.outputs or {}
    number = {name: value for name, value in outputs.items() if isinstance(value, int)}
    if set(number) != set(there) or set(number.values()) != set(range(len(number))):
        raise _wrong(
            f"`outputs` alone must number all {len(there)} classes from 0 on, and gives "
            f"{ticked([f'{name}: {value}' for name, value in outputs.items()])}",
            "name all classes of the model beside it: `classes: ./classes.txt`, or `to: imagenet-1k`",
            field="outputs",
        )
    by_number = tuple(sorted(number, key=lambda name: number[name]))
    return Targets(by_number, "`outputs`", lambda name: (number[name],), lambda i: by_number[i])


def _resolved_all(there: tuple[str, ...], asked: Labels, targets: Targets, written: str) -> dict[str, int]:
    """The label of each class; where some are none, the first error says how many."""
    found: dict[str, int] = {}
    wrong: list[StudyError] = []
    for name in there:
        try:
            found[name] = _resolved(name, asked, targets, written)
        except StudyError as error:
            wrong.append(error)
    if wrong:
        (first,) = wrong[0].diagnostics
        more = f"; {len(wrong):,} of {len(there):,} classes cannot be mapped" if len(wrong) > 1 else ""
        raise StudyError(replace(first, message=first.message + more))
    return found


def _resolved(name: str, asked: Labels, targets: Targets, written: str) -> int:
    """The label of a class."""
    said = (asked.outputs or {}).get(name, name)
    found = targets.find(said) if isinstance(said, str) else ()
    number = said if isinstance(said, int) else int(said) if said.isdecimal() and not found else None
    if number is not None and 0 <= number < len(targets.names):
        return number
    if len(found) == 1:
        return found[0]
    many = f"may be {' or '.join(f'{i} ({targets.title(i)})' for i in found)}" if found else "is none"
    near = "" if found or not isinstance(said, str) else did_you_mean(said, targets.names)
    raise _wrong(
        f"the class `{name}` in `{written}` {many} of the {len(targets.names):,} classes of {targets.what}",
        near,
        f"say which output it is: `labels: {{..., outputs: {{{name}: 281}}}}` (a number or a name)",
        "or leave out what is no class of the model with `only: [...]`"
        if isinstance(said, str) and not found
        else "",
        field="outputs",
    )


def _known(names: Iterable[str], given: Sequence[str], who: str) -> None:
    there = set(given)
    for name in names:
        if name not in there:
            raise _wrong(
                f"{who} the class `{name}`, and no image has it",
                did_you_mean(name, in_order(there)),
                f"the images have {ticked(in_order(there))}",
            )


def _file(name: str, folder: Path, field: str) -> Path:
    """A file that `labels` names."""
    path = (folder / expanded(name)).resolve()
    if path.is_file():
        return path
    raise EnvironmentProblem(
        Diagnostic(
            "VD401",
            f"the file of labels `{name}` {'is a folder' if path.is_dir() else 'does not exist'}",
            label="cannot be opened",
            notes=(f"looked for `{path}`; relative paths start at the study's folder",),
            help=(near_files(path, name), "name a text file"),
            about=(("labels", field), *ABOUT),
        )
    )


def _wrong(message: str, *help: str, field: str = "") -> StudyError:
    about = ((("labels", field),) if field else ()) + ABOUT
    return StudyError(Diagnostic("VD244", message, label="no classes", help=help, about=about))
