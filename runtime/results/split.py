"""How the conditions of a pass were dealt to several graphs, in numbers and in words; part of the manifest.

Does not own how they are dealt (`vitdsl.runtime.run.turns`). Free of torch.
"""

from vitdsl.dsl.sizes import sized
from vitdsl.dsl.text import counted
from vitdsl.runtime.results.record import Record


class Split(Record):
    """How the conditions of a pass were dealt to several graphs, so that it takes less memory.

    Attributes:
        data: The pass.
        conditions: How many conditions it has, of all models.
        turns: In how many turns they run, one after the other on each batch.
        together: Bytes that it was predicted to take with all of them in one turn.
        taken: The same with these turns.
        more: Share of operations that are computed again, of those with all in one turn.
        room: Bytes that it might take; None where that is not known.
        halved: How many conditions ran together at most after each time that memory was full.
    """

    data: str
    conditions: int
    turns: int
    together: float
    taken: float
    more: float
    room: float | None = None
    halved: tuple[int, ...] = ()

    @property
    def words(self) -> str:
        """What was done, and what it costs."""
        text = (
            f"{self.data}: {counted(self.conditions, 'condition')} in {counted(self.turns, 'turn')}, one after the "
            f"other on each batch: {sized(self.taken)} in place of {sized(self.together)}, "
            f"{self.more:.0%} more operations"
        )
        if self.halved:
            text += f"; memory was full, and {' then '.join(map(str, self.halved))} ran at a time"
        elif self.room is not None and self.taken > self.room:
            text += f"; that is still more than {sized(self.room)}"
        return text
