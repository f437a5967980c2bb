"""What an ablation is: at a place in a model's graph, another value instead of the model's own.

A place is a site and a role of it, as metrics read them. Does not own: how conditions share what they have in common
(`graph`), which places match (`plan`).
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from vitdsl.dsl.study import Entry
from vitdsl.runtime.graph.edit import Place, Rewriter
from vitdsl.runtime.graph.site import Site
from vitdsl.runtime.kinds import Registry
from vitdsl.runtime.metrics._base import Fit


class Ablation(ABC):
    """A kind of ablation; one file in this folder. Its module's docstring is its page in `vitdsl explain`.

    Attributes:
        name: The kind's name, equal to the file's.
        version: Raised with every change of the numbers.
        Params: The kind's own fields in a study.
        roles: The roles that it can act on; the first where a study does not say which.
        cites: Keys of the works that it comes from, in `runtime/results/references.bib`.
        windows: Whether it can act where the first axis of a tensor is windows of images.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    Params: ClassVar[type[Entry]] = Entry
    roles: ClassVar[tuple[str, ...]]
    cites: ClassVar[tuple[str, ...]] = ()
    windows: ClassVar[bool] = False

    def __init__(self, params: Entry) -> None:
        self.params = params

    @property
    def role(self) -> str:
        """The role that it acts on where a study does not say which."""
        return self.roles[0]

    def refuse(self, site: Site) -> str | None:
        """Why this ablation cannot act at a site, or None."""
        return None

    def refuse_place(self, place: Place) -> str | None:
        """Why this ablation cannot act at a place, or None: for what is seen in the graph alone."""
        return None if place.site is None else self.refuse(place.site)

    def refuse_training(self) -> str | None:
        """Why it cannot hold while a model is trained, or None."""
        return None if self.fit() is None else "it needs a statistic of the trained model"

    def places(self, place: Place) -> tuple[Place, ...]:
        """What is changed where a study names a place: that place, unless a name stands for others."""
        return (place,)

    def together(self) -> int:
        """How many images, one behind the other in the stream, act on one another; batches may not part them."""
        return 1

    def reads(self) -> Mapping[str, tuple[str, str]]:
        """The other sites whose tensors it needs, name and role, by the parameter that names each."""
        return {}

    def fit(self) -> Fit | None:
        """What it must know of its places before it can act: a statistic over images of the intact model."""
        return None

    def over(self) -> str | None:
        """The data entry that the fit is made on; None for the images that are measured."""
        return None

    @abstractmethod
    def rewrite(self, place: Place, build: Rewriter, *fitted: Any) -> Any:
        """The value at a place under this ablation: `build.before` changed, or `build.nothing`.

        Args:
            place: Where it acts.
            build: What it may do.
            fitted: The constants that `fit` gave for the place.
        """


ABLATIONS: Registry[Ablation] = Registry("ablations", "vitdsl.runtime.ablations", Ablation)
