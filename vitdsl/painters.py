"""Painters: processes that draw figures beside this one, which draws too.

matplotlib draws on one core. A painter is started early, so that it has imported what drawing takes when there is
something to draw; then whoever is free takes the next drawing. What a painter does not give is drawn here, so that a
figure that cannot be drawn fails as it does without painters, and bytes are the same either way.

A painter is a new Python that is told the calls: a fork would share PyTorch's threads, and the processes of
`multiprocessing` would run the user's script again. It ends when its input does. Does not own what is drawn
(`vitdsl.reports`).
"""

import contextlib
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from threading import Condition, Lock, Thread
from typing import TYPE_CHECKING, Any

from vitdsl.importing import importing, seldom
from vitdsl.runtime.cores import cores

if TYPE_CHECKING:
    from vitdsl.reports.canvas import Call, Drawing

MOST = 3
"""More painters than these would start later than the last drawing of a usual report is done."""
PAINT = "import sys; sys.path[:] = sys.argv[1:]; from vitdsl.painters import paint; paint()"


def spare() -> int:
    """How many painters this machine has cores for: none where the user says that one thread computes."""
    threads = os.environ.get("OMP_NUM_THREADS", "")
    own = min(cores(), int(threads)) if threads.isdecimal() else cores()
    named = Path(sys.executable or "").name.lower().startswith(("python", "pypy"))
    return max(0, min(MOST, own - 1)) if named else 0


class Painters:
    """So many painters; as a context, they end with it. To call it is to have drawings made.

    Attributes:
        drawn: How many drawings painters gave so far.
    """

    def __init__(self) -> None:
        self.drawn = 0
        self._all: list[_Painter] = []
        self._threads: list[Thread] = []

    def __enter__(self) -> "Painters":
        return self

    def __exit__(self, *raised: object) -> None:
        for painter in self._all:
            painter.process.kill()
        for thread in self._threads:
            thread.join()
        for painter in self._all:
            painter.close()

    def start(self, count: int | None = None) -> "Painters":
        """Start them, once: as many as there are cores for if no count is given."""
        if not self._all:
            with contextlib.suppress(OSError):  # no more processes: fewer painters
                self._all.extend(_Painter() for _ in range(spare() if count is None else count))
        return self

    def __call__(self, calls: "Sequence[Call]") -> "list[Drawing]":
        """The drawings, in the order of their calls, made within `style()`.

        Raises:
            Exception: What a call raises here.
        """
        if len(calls) < 2 or not self._all:
            return [call() for call in calls]
        deal, asked = _Deal(calls), pickle.dumps(calls)
        for painter in self._all:
            thread = Thread(target=painter.work, args=(asked, deal), daemon=True)
            self._threads.append(thread)
            thread.start()
        found = deal.finished()
        self.drawn += deal.elsewhere
        return found


class _Deal:
    """Calls dealt one by one to whoever is free."""

    def __init__(self, calls: "Sequence[Call]") -> None:
        self.calls, self.elsewhere = calls, 0
        self._left = list(reversed(range(len(calls))))
        self._found: dict[int, Drawing] = {}
        self._changed = Condition()

    def take(self) -> int | None:
        """The next call; None where all are dealt."""
        with self._changed:
            return self._left.pop() if self._left else None

    def give(self, index: int, drawing: "Drawing | None") -> None:
        """What a painter made of a call; None gives the call back."""
        with self._changed:
            if drawing is None:
                self._left.append(index)
            else:
                self._found[index] = drawing
                self.elsewhere += 1
            self._changed.notify()

    def finished(self) -> "list[Drawing]":
        """Draw here until nothing is left."""
        try:
            while len(self._found) < len(self.calls):
                with self._changed:
                    self._changed.wait_for(lambda: self._left or len(self._found) == len(self.calls))
                index = self.take()
                if index is not None:
                    self._found[index] = self.calls[index]()
        finally:
            with self._changed:
                self._left.clear()
        return [self._found[index] for index in range(len(self.calls))]


class _Painter:
    """One process, and the way to it."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PAINT, *(path for path in sys.path if isinstance(path, str))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self.process.stdin and self.process.stdout
        self._input, self._output = self.process.stdin, self.process.stdout
        self._mine = Lock()
        self._lost = False

    def work(self, asked: bytes, deal: _Deal) -> None:
        """Have what is dealt drawn, until nothing is left or something fails."""
        with self._mine:
            if self._lost or self._answer(asked) is None:
                return
            while not self._lost and (index := deal.take()) is not None:
                deal.give(index, self._answer(pickle.dumps(index)))

    def _answer(self, message: bytes) -> Any:
        """What it answers; None where it failed, and is asked no more."""
        found = None
        with contextlib.suppress(OSError, EOFError, ValueError, pickle.UnpicklingError):
            self._input.write(message)
            self._input.flush()
            found = pickle.load(self._output)
        self._lost = found is None
        return found

    def close(self) -> None:
        """Leave nothing of it."""
        for way in (self._input, self._output):
            with contextlib.suppress(OSError):
                way.close()
        self.process.wait()


def paint() -> None:
    """What a painter does: take calls, then draw those whose numbers come, until its input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's is for the process that started it
    ways = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    with importing():
        from vitdsl.reports.canvas import style
        from vitdsl.reports.figures._base import figures

        figures()
    calls: Sequence[Call] = ()
    with style(), seldom(), contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            asked = pickle.load(ways[0])
            answer: Drawing | int | None = None
            if isinstance(asked, int):
                with contextlib.suppress(Exception):
                    answer = calls[asked]()
            else:
                calls = asked
                answer = len(calls)
            pickle.dump(answer, ways[1])
            ways[1].flush()
