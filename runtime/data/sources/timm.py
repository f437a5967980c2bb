"""Any data set that `timm.data.create_dataset` opens, by the name that timm gives it.

What it gives
    Folders and tar files (`name: ""`), Hugging Face data sets (`hfds/NAME`), torchvision's
    (`torch/cifar10`), and the streaming kinds `hfids/`, `wds/` and `tfds/`. Nothing is downloaded except
    what Hugging Face's own library fetches into its cache. Ids are the reader's file names, or the index
    where it has none. The content hash is of the encoded image where the reader hands it on, of the pixels
    otherwise. Each image becomes RGB. Streaming kinds have no random access: `first: N` reads the first N
    images, in the stream's own order, and holds them in memory. An unreadable image stops the run (timm
    itself would show its neighbour instead).

Limits
    `hfds/` and `hfids/` need the package `datasets`, `wds/` needs `webdataset`, `tfds/` needs
    `tensorflow-datasets`. A reader that cannot tell its labels without images is read through once at the
    start.

Example:
    data:
      probe: {source: timm, name: torch/cifar10, root: ./data, split: validation, images: 1000}
      val: {source: timm, name: hfds/timm/mini-imagenet, split: test, images: 1000}
"""

import hashlib
import importlib.util
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from PIL import Image
from pydantic import Field
from timm.data import create_dataset

from vitdsl.dsl.diagnostics import Diagnostic, EnvironmentProblem, StudyError
from vitdsl.dsl.study import Entry
from vitdsl.runtime.data.sources._base import ImagesNotHere, Item, Source
from vitdsl.runtime.data.sources._pixels import opened, to_rgb
from vitdsl.runtime.full import is_memory
from vitdsl.runtime.paths import expanded

NEEDS = {
    "hfds": ("datasets", "datasets"),
    "hfids": ("datasets", "datasets"),
    "wds": ("webdataset", "webdataset"),
    "tfds": ("tensorflow_datasets", "tensorflow-datasets"),
}
STREAMING = ("hfids", "wds", "tfds")


class Params(Entry):
    """Which data set."""

    name: str = Field(
        description='timm\'s name, such as `torch/cifar10` or `hfds/NAME`; `""` for folders, tars.'
    )
    root: str | None = Field(
        None, description="The folder or .tar, relative to the study; a cache for `hfds/`."
    )
    split: str = Field("validation", description="Which part, in the data set's own terms.")
    class_map: str | None = Field(None, description="A text file of class names, relative to the study.")
    input_key: str | None = Field(None, description="The field of the image, where a data set has several.")
    target_key: str | None = Field(None, description="The field of the label, where a data set has several.")
    first: int | None = Field(None, ge=1, description="Of a streaming kind: how many images to hold.")


class Timm(Source):
    """A data set of timm, in its own order."""

    name = "timm"
    Params = Params
    paths: ClassVar[tuple[str, ...]] = ("root", "class_map")

    def __init__(self, params: Entry, *, folder: Path, seed: int) -> None:
        """Open the data set, and hold the images of a streaming kind."""
        assert isinstance(params, Params)
        self.params = params
        self.kind = params.name.partition("/")[0].lower() if "/" in params.name else ""
        self.dataset = _open(params, self.kind, folder)
        self.held: list[tuple[Image.Image, Any]] | None = None
        if self.kind in STREAMING:
            self.held = _hold(self.dataset, params)
        self.size = len(self.held) if self.held is not None else len(self.dataset)
        if not self.size:
            raise EnvironmentProblem(
                _problem(
                    "VD403",
                    params,
                    "it has no images",
                    "check `split` and `root`",
                    "root",
                    "name",
                    label="no images",
                )
            )
        self.labels = self._read_labels()
        self.classes = _names(self.dataset, self.labels)

    @classmethod
    def is_local(cls, params: Mapping[str, Any]) -> bool:
        """Folders, tars and torchvision's data sets are; the other kinds may fetch."""
        kind, slash, _ = str(params.get("name")).partition("/")
        return not slash or kind.lower() not in NEEDS

    def __len__(self) -> int:
        return self.size

    def id(self, index: int) -> str:
        """The reader's name of the image, or its index."""
        name = None
        if self.held is None and hasattr(self.dataset, "filename"):
            try:
                name = self.dataset.filename(index)
            except (AssertionError, NotImplementedError, KeyError, TypeError):
                name = None
        return str(name) if name else f"{self.params.name}/{self.params.split}/{index:07d}"

    def in_words(self) -> str:
        """The data set by timm's name of it, and its part."""
        return f"images of `{self.params.name or 'a folder'}`, {self.params.split}"

    def content(self, index: int) -> str:
        """The hash of the encoded image where the reader hands it on; of the pixels otherwise."""
        reader = getattr(self.dataset, "reader", None)
        if self.held is not None or reader is None:
            return self.load(index).sha256
        try:
            with reader[index][0] as file:
                return hashlib.sha256(file.read()).hexdigest()
        except Exception:  # each kind of data set fails in its own way, and loading it says how
            return self.load(index).sha256

    def label(self, index: int) -> int | None:
        """Its class, None where the data set has none."""
        return None if self.labels is None else self.labels[index]

    def load(self, index: int) -> Item:
        """Read and decode one image."""
        try:
            image, content = self._image(index)
            rgb = to_rgb(image)
        except Exception as error:  # each kind of data set fails in its own way
            if is_memory(error):
                raise
            what = f"image {index} (`{self.id(index)}`) cannot be read: {error}"
            raise EnvironmentProblem(
                _problem("VD402", self.params, what, "mend or replace it in the data set", "root")
            ) from error
        return Item(rgb, self.label(index), content or hashlib.sha256(rgb.tobytes()).hexdigest())

    def _image(self, index: int) -> tuple[Image.Image, str | None]:
        if self.held is not None:
            return self.held[index][0], None
        reader = getattr(self.dataset, "reader", None)
        if reader is None:
            return self.dataset[index][0], None
        with reader[index][0] as file:
            content = file.read()
        return opened(content), hashlib.sha256(content).hexdigest()

    def _read_labels(self) -> list[int] | None:
        found = _targets(self.dataset, self.held)
        try:
            labels = [-1 if target is None else int(target) for target in found]
        except (TypeError, ValueError) as error:
            raise StudyError(
                _problem(
                    "VD244",
                    self.params,
                    "its labels are not classes",
                    "write `target_key` of a class label",
                    "target_key",
                    "name",
                )
            ) from error
        return None if not labels or min(labels) < 0 else labels


def _open(params: Params, kind: str, folder: Path) -> Any:
    if kind in NEEDS and importlib.util.find_spec(NEEDS[kind][0]) is None:
        package = NEEDS[kind][1]
        raise EnvironmentProblem(
            _problem(
                "VD410",
                params,
                f"`{kind}/` needs the package `{package}`",
                f"`pip install {package}`",
                "name",
            )
        )
    if kind in STREAMING and params.first is None:
        raise StudyError(
            _problem(
                "VD245",
                params,
                f"`{kind}/` is a stream: its images cannot be shuffled or counted",
                "write `first: N` to hold its first N images in memory",
                "first",
                "name",
            )
        )
    if kind not in STREAMING and params.first is not None:
        raise StudyError(
            _problem("VD245", params, "`first` is for streams", "write `images: N` instead", "first", "name")
        )
    if kind not in NEEDS and params.root is None:
        raise StudyError(_problem("VD101", params, "it needs `root`", "write `root: path/of/the/data`"))
    root = None if params.root is None else (folder / expanded(params.root)).resolve()
    if root is not None and kind not in ("hfds", "hfids") and not root.exists():
        raise ImagesNotHere(
            _problem(
                "VD401",
                params,
                f"its root `{root}` does not exist",
                "correct `root` (relative to the study)",
                "root",
                label="cannot be opened",
            )
        )
    more: dict[str, Any] = {"input_key": params.input_key, "target_key": params.target_key}
    if kind not in NEEDS and root is not None and root.suffix == ".tar":
        more["cache_tarfiles"] = False
    if params.class_map is not None:
        more["class_map"] = str((folder / expanded(params.class_map)).resolve())
    more = {key: value for key, value in more.items() if value is not None}
    if kind in STREAMING:
        more["num_samples"] = params.first
    try:
        return create_dataset(
            params.name, root=None if root is None else str(root), split=params.split, download=False, **more
        )
    except Exception as error:  # each kind of data set fails in its own way
        if is_memory(error):
            raise
        text = str(error).strip().splitlines()
        raise EnvironmentProblem(
            _problem(
                "VD411",
                params,
                f"timm cannot open it: {text[0] if text else type(error).__name__}",
                "check `name`, `root` and `split`; fetch torchvision's data sets beforehand",
                "name",
            )
        ) from error


def _hold(dataset: Iterable[Any], params: Params) -> list[tuple[Image.Image, Any]]:
    held: list[tuple[Image.Image, Any]] = []
    try:
        for image, target, *_ in dataset:
            held.append((image, target))
            if len(held) == params.first:
                break
    except Exception as error:  # each kind of data set fails in its own way
        if is_memory(error):
            raise
        what = f"reading stopped after {len(held)} images: {error}"
        raise EnvironmentProblem(_problem("VD402", params, what, "check the data set", "root")) from error
    return held


def _targets(dataset: Any, held: list[tuple[Image.Image, Any]] | None) -> Iterable[Any]:
    """Labels of all images, without decoding any where the data set allows it."""
    if held is not None:
        return [target for _, target in held]
    for owner in _owners(dataset):
        if hasattr(owner, "targets"):
            return list(owner.targets)
        if hasattr(owner, "iter_targets"):
            return list(owner.iter_targets())
        samples = getattr(owner, "samples", None)
        if samples and isinstance(samples[0], tuple) and isinstance(samples[0][1], int):
            return [target for _, target in samples]
    return [dataset[index][1] for index in range(len(dataset))]


def _owners(dataset: Any) -> list[Any]:
    return [owner for owner in (getattr(dataset, "reader", None), dataset) if owner is not None]


def _names(dataset: Any, labels: list[int] | None) -> tuple[str, ...] | None:
    if labels is None:
        return None
    for owner in _owners(dataset):
        for name in ("class_to_idx", "class_name_to_idx"):
            table = getattr(owner, name, None)
            if table and set(table.values()) >= set(labels):
                by_index = {index: str(key) for key, index in table.items()}
                return tuple(by_index.get(index, str(index)) for index in range(max(by_index) + 1))
        classes = getattr(owner, "classes", None)
        if classes and len(classes) > max(labels):
            return tuple(map(str, classes))
    return tuple(str(index) for index in range(max(labels) + 1))


def _problem(code: str, params: Params, what: str, instead: str, *fields: str, label: str = "") -> Diagnostic:
    """An error of the data set, about some of the entry's fields, the likeliest first."""
    named = f"timm data set `{params.name or params.root}`: {what}"
    return Diagnostic(code, named, label=label, help=(instead,), about=tuple((field,) for field in fields))
