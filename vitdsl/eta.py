"""How long a stage still takes, from the steps that it took so far.

The first step is slower than the others (it compiles, fills caches, is checked), so speed is measured after it; and
over the later half of the time since, so that a machine that became slower is believed. Does not own how it is shown.
"""

import time
from collections.abc import Callable

Clock = Callable[[], float]
MOST = 512
"""Moments that are remembered; of more, every second one is forgotten."""


class Eta:
    """Told of the steps of one stage.

    Attributes:
        total: Steps of the stage.
        done: Steps that are done.
    """

    def __init__(self, total: int, clock: Clock = time.monotonic) -> None:
        """A stage begins now."""
        self.total, self.done = total, 0
        self._clock = clock
        self._began = clock()
        self._seen: list[tuple[float, int]] = []

    def step(self, count: int) -> None:
        """Some steps are done."""
        self.done += count
        self._seen.append((self._clock(), self.done))
        if len(self._seen) > MOST:
            self._seen = [self._seen[0], *self._seen[2:-1:2], self._seen[-1]]

    def left(self) -> float | None:
        """Seconds that the stage still takes; None before its first step."""
        if not self._seen:
            return None
        last, done = self._seen[-1]
        first, at_first = self._seen[0]
        if done > at_first and last > first:
            half = next(one for one in self._seen if one[0] >= (first + last) / 2 or one[1] == done)
            since, before = half if half[1] < done else self._seen[-2]
            speed = (done - before) / max(last - since, 1e-9)
        else:
            speed = done / max(last - self._began, 1e-9)
        return max(0.0, (self.total - done) / speed - (self._clock() - last))
