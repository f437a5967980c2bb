"""The standard streams and signals of the process: what the command line makes of them before and after its work.

A closed or full stream and a reader that went away are circumstances and no bugs. Signals that end a process are
interruptions: what is open is closed, and the run folder says so. Only the command line asks for this, never the
library.
"""

import os
import signal
import sys
import threading
from types import FrameType
from typing import TextIO

PIPE = 141
"""Exit code where whoever read the answer has closed the pipe, as shells have it (128 + SIGPIPE)."""
CANNOT = 3


class Ended(KeyboardInterrupt):
    """A signal ended the process."""

    def __init__(self, number: int) -> None:
        super().__init__(f"ended by {signal.Signals(number).name}")
        self.name = signal.Signals(number).name
        self.code = 128 + number


def ready() -> None:
    """Make the standard streams writable: a closed one swallows, and no character is refused."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  (lives as long as the process)
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def listen() -> None:
    """Take SIGTERM and SIGHUP as interruptions; a second one ends at once."""
    if threading.current_thread() is not threading.main_thread():
        return
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _ended)


def finish(code: int) -> int:
    """The exit code, after what is left was written; a stream that cannot be written is said where one still can."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            code = PIPE
            _swallow(stream)
        except (OSError, ValueError):
            code = code or CANNOT
            _swallow(stream)
    return code


def _ended(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)
    raise Ended(number)


def _swallow(stream: TextIO) -> None:
    """Let what Python writes to a dead stream at its end go nowhere."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    except (OSError, ValueError):
        return
