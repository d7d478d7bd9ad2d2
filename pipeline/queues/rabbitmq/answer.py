"""An answer that will come: what a callback knows and a task waits for."""

from __future__ import annotations

from typing import Generic, TypeVar

import trio

T = TypeVar("T")


class Answer(Generic[T]):
    """Given once, by a value or an error; what is given later changes nothing."""

    def __init__(self) -> None:
        self._given = trio.Event()
        self._value: list[T] = []
        self._error: BaseException | None = None

    @property
    def is_given(self) -> bool:
        """Whether waiting for it would be over at once."""
        return self._given.is_set()

    def give(self, value: T) -> None:
        """Answer with a value."""
        if not self.is_given:
            self._value.append(value)
            self._given.set()

    def fail(self, error: BaseException) -> None:
        """Answer with an error."""
        if not self.is_given:
            self._error = error
            self._given.set()

    async def wait(self) -> T:
        """Wait for the value, or raise the error. May be repeated, also after a cancellation."""
        await self._given.wait()
        if self._error is not None:
            raise self._error
        return self._value[0]
