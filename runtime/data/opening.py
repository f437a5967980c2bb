"""Opening a source, and what a `data` entry asks of it and of the models that see it: each checked in one place.

Owns the checks of an entry that need its source or the models' preprocessing. Does not own: labels (`labels`), order
and batches (`stream`), places in files (`vitdsl.dsl.source`).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from vitdsl.dsl.diagnostics import Diagnostic, EnvironmentProblem, StudyError
from vitdsl.dsl.schema import validated
from vitdsl.dsl.source import SourceMap
from vitdsl.dsl.study import OWN, Data
from vitdsl.runtime.data.pairing import Beside
from vitdsl.runtime.data.sources._base import SOURCES, Source
from vitdsl.runtime.full import telling
from vitdsl.runtime.models.features import foreign_ids
from vitdsl.runtime.models.preprocessing import ByImage, Preprocessing
from vitdsl.runtime.randomness import permutation

FULL = Diagnostic(
    "VD409",
    "out of memory where images are opened",
    help=("close other programs, or take smaller images or fewer of them",),
    about=(("source",),),
)


def open_source(data: Data, *, seed: int, folder: Path, other: Data | None = None) -> Source:
    """Open the source of a `data` entry.

    Args:
        data: The entry.
        seed: Its seed.
        folder: Where relative paths start.
        other: The entry that it stands beside, where it is `of` one.

    Raises:
        StudyError: There is no such source (VD220), or it does not take these parameters (VD1xx); it is endless, and
            the entry does not say how many images to take (VD101); not all images of the other entry have one here
            (VD247).
        EnvironmentProblem: It is missing, empty or unreadable.
    """
    kind = SOURCES.find(data.source)
    params = validated(kind.Params, data.params, SourceMap())
    if isinstance(params, list):
        raise StudyError(params)
    with telling(FULL):
        source = kind(params, folder=folder, seed=seed)
    if source.endless:
        source.asked = _asked(data)
    if other is None:
        return source
    alike = (other.source, other.params) == (data.source, data.params)
    return Beside(
        source, source if alike else open_source(other, seed=seed, folder=folder), data.transform, seed
    )


def _asked(data: Data) -> int:
    """How many images an entry asks an endless source for."""
    if data.images is None:
        raise StudyError(
            Diagnostic(
                "VD101",
                f"source `{data.source}` has no end, and `images` is missing",
                label="how many images?",
                help=("write how many, such as `images: 1000`",),
                about=(("source",),),
            )
        )
    return data.images


def check_count(data: Data, source: Source) -> None:
    """Make sure that a source has as many images as its entry takes.

    Raises:
        StudyError: It has fewer (VD243).
    """
    if data.images is not None and data.images > len(source):
        raise StudyError(
            Diagnostic(
                "VD243",
                f"`images: {data.images}`, but source `{data.source}` has {len(source)}",
                label="more than there are",
                help=(f"write at most `images: {len(source)}`, or leave it out to take all",),
                about=(("images",),),
            )
        )


def order_of(data: Data, source: Source, seed: int) -> list[int]:
    """The images that an entry takes of its source, in the order of the stream."""
    order = permutation(len(source), seed) if data.shuffle else list(range(len(source)))
    return order[: data.images]


def check_ids(source: Source, order: Sequence[int], configs: Mapping[str, Preprocessing]) -> None:
    """Make sure that features have a row for every image of a stream.

    Args:
        source: The source.
        order: The images of the stream.
        configs: What each model takes, by its name.

    Raises:
        EnvironmentProblem: They have not (VD431).
    """
    for name, config in configs.items():
        if isinstance(config, ByImage):
            problem = foreign_ids(config.rows, (source.id(index) for index in order), name)
            if problem is not None:
                raise EnvironmentProblem(problem)


def shared_preprocessing(data: Data, configs: Mapping[str, Preprocessing]) -> Mapping[str, Preprocessing]:
    """What each model gets: its own preprocessing, or that of the one that the entry names for all.

    Args:
        data: The entry.
        configs: What each model takes, by its name.

    Raises:
        StudyError: A model takes images of another size (VD234).
    """
    if data.preprocess == OWN or data.preprocess not in configs:
        return configs
    shared = configs[data.preprocess]
    for name, config in configs.items():
        check_size(data, shared, name, config)
    return {name: config if isinstance(config, ByImage) else shared for name, config in configs.items()}


def check_size(data: Data, shared: Preprocessing, model_name: str, config: Preprocessing) -> None:
    """Make sure that the preprocessing that an entry names for all gives images of the size that a model takes.

    Raises:
        StudyError: It does not (VD234).
    """
    if isinstance(config, ByImage) and not isinstance(shared, ByImage):
        return
    if isinstance(shared, ByImage):
        raise StudyError(
            Diagnostic(
                "VD234",
                f"`preprocess: {data.preprocess}` names features, which take no images",
                label="no preprocessing",
                help=("name a model that sees the images, or leave `preprocess` out",),
                about=(("preprocess",),),
            )
        )
    if config.input_size != shared.input_size:
        raise StudyError(
            Diagnostic(
                "VD234",
                f"`preprocess: {data.preprocess}` gives images of {pixels(shared)} pixels, "
                f"and model `{model_name}` takes {pixels(config)}",
                label=f"{pixels(shared)} pixels",
                help=("build both for one size (`options: {img_size: N}` or `input_size: N`)",),
                about=(("preprocess",),),
            )
        )


def pixels(config: Preprocessing) -> str:
    """Height and width of the images that a preprocessing gives, such as `224 x 224`."""
    return f"{config.input_size[1]} x {config.input_size[2]}"
