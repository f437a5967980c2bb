"""A model that is read by hooks and does something else for some images than for others: the error that says which.

Does not own how that is noticed (`graph.hooks`).
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from vitdsl.dsl.diagnostics import Diagnostic, EnvironmentProblem
from vitdsl.dsl.text import shown
from vitdsl.runtime.data.stream import Stream
from vitdsl.runtime.graph.hooks import OtherwiseError
from vitdsl.runtime.run.compile import Compiled


@contextmanager
def named(models: Mapping[str, Compiled], stream: Stream, rows: Sequence[int]) -> Iterator[None]:
    """Name the model and its images where one does something else for them.

    Args:
        models: The models by name.
        stream: The images.
        rows: Those of the batch.

    Raises:
        EnvironmentProblem: It does (VD507).
    """
    try:
        yield
    except OtherwiseError as error:
        model = next(name for name, one in models.items() if one.module is error.model)
        first, last = (shown(stream.id(row)) for row in (rows[0], rows[-1]))
        images = f"`{first}`" if len(rows) == 1 else f"the {len(rows)} images from `{first}` to `{last}`"
        raise EnvironmentProblem(
            Diagnostic(
                "VD507",
                f"`{model}` is read by hooks, and does something else for {images}: {error}",
                help=(
                    "let its program do the same whatever the images are: call the same modules in the same order",
                    "or leave these images out",
                ),
            )
        ) from error
