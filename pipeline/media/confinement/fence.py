"""A thread inside the fence, from which a program is started.

What the kernel refuses to a thread it refuses to all that the thread starts, and never gives back.
So for each program there is a thread that locks itself in, starts it, and waits until it has ended,
since the program would not survive it. To do it in the program's own process, between its start and
its first instruction, needs another program to do it: Python takes 8 ms for that, ten times a task,
and `preexec_fn` may deadlock in a process with threads. This takes half of one.
"""

from __future__ import annotations

import enum
import gc
import platform
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from pipeline.media.confinement import calls, files
from pipeline.media.confinement.kernel import give_up_privileges

T = TypeVar("T")


class Layer(enum.Enum):
    """What can be closed, each by itself."""

    CALLS = "calls"
    FILES = "files"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What is left open.

    Args:
        reads: Files, and directories with all in them, beside the system's own.
        writes: The directory in which it may do as it likes with files.
    """

    reads: Sequence[Path]
    writes: Path


@contextmanager
def fenced(start: Callable[[], T], bounds: Bounds) -> Iterator[T]:
    """Call `start` behind the fence, and keep the thread that did so until the block ends.

    A layer that this kernel lacks is left out: better an encode with one wall less than none.

    Raises:
        Exception: What `start` raised.
    """
    thread = _Inside(start, bounds)
    thread.start()
    try:
        thread.done.wait()
        yield thread.result()
    finally:
        thread.over.set()
        thread.join()


def attempt() -> Mapping[Layer, str]:
    """Try each layer on a thread that is not needed: why it does not hold, empty where it does."""
    found: dict[Layer, str] = {}

    def try_both() -> None:
        give_up_privileges()
        for layer, close in _closers(Bounds(reads=(), writes=Path("/nowhere"))).items():
            try:
                close()
            except OSError as error:
                found[layer] = error.strerror or str(error)
            else:
                found[layer] = ""

    thread = threading.Thread(target=try_both, name="grapevine-fence-attempt", daemon=True)
    thread.start()
    thread.join()
    return found


class _Inside(threading.Thread, Generic[T]):
    """The thread."""

    def __init__(self, start: Callable[[], T], bounds: Bounds) -> None:
        super().__init__(name="grapevine-fence", daemon=True)
        self._do = start
        self._bounds = bounds
        self._results: list[T] = []
        self._failure: Exception | None = None
        self.done, self.over = threading.Event(), threading.Event()

    def run(self) -> None:
        # The collector would end other people's objects in here, where they may not do a thing.
        # Whoever waits for `done` meanwhile is the thread that starts all programs.
        collecting = gc.isenabled()
        gc.disable()
        try:
            _close(self._bounds)
            self._results.append(self._do())
        except Exception as error:  # it is the other thread's to raise
            self._failure = error
        finally:
            if collecting:
                gc.enable()
            self.done.set()
        self.over.wait()

    def result(self) -> T:
        if self._failure is not None:
            raise self._failure
        return self._results[0]


def _close(bounds: Bounds) -> None:
    give_up_privileges()
    for close in _closers(bounds).values():
        try:
            close()
        except OSError:
            continue  # `peerctl doctor` tells it, once, to somebody who can change it


def _closers(bounds: Bounds) -> dict[Layer, Callable[[], None]]:
    return {
        # Files first: the filter could not know calls that are to come.
        Layer.FILES: lambda: files.restrict(bounds.reads, [bounds.writes]),
        Layer.CALLS: lambda: calls.install(platform.machine()),
    }
