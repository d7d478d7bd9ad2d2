"""Dependencies are tried until they are as they should be, and what is wrong is logged."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import trio.testing

from peer.adapters import About
from peer.assembly import PAUSE_MAX_S, settle
from pipeline.errors import PipelineError, QueueIncompatible, StoreUnavailable

DENIED = StoreUnavailable("access denied", definite=True)
MISSING = StoreUnavailable("no bucket", definite=True)


class Counted:
    """A worker's breakers, as far as they count."""

    def __init__(self) -> None:
        self.outcomes: list[str] = []

    @contextmanager
    def heard(self, dependency: str) -> Iterator[None]:
        try:
            yield
        except PipelineError as error:
            self.outcomes.append(f"{dependency}: {error}")
            raise
        self.outcomes.append(f"{dependency}: well")


class Dependency:
    """Fails with each of these in turn, and then is well; None does not answer at all."""

    def __init__(self, *failures: PipelineError | None) -> None:
        self.failures = list(failures)
        self.looked_at: list[float] = []

    async def describe(self) -> str:
        self.looked_at.append(trio.current_time())
        if self.failures:
            failure = self.failures.pop(0)
            if failure is None:
                await trio.sleep_forever()
            else:
                raise failure
        return "as it should be"

    @property
    def about(self) -> About:
        return About(describe=self.describe, advice="look at its log")


def said(caplog: pytest.LogCaptureFixture) -> list[tuple[int, str]]:
    return [
        (record.levelno, getattr(record, "error", "") or getattr(record, "what", ""))
        for record in caplog.records
    ]


@pytest.mark.parametrize(
    ("failures", "lines"),
    [
        ([], []),
        ([DENIED, DENIED, DENIED], ["access denied"]),
        ([DENIED, MISSING, DENIED], ["access denied", "no bucket", "access denied"]),
        ([QueueIncompatible("another queue")], ["another queue"]),
        ([None], ["no answer within 15 s"]),
    ],
)
async def test_each_trouble_is_said_once(
    caplog: pytest.LogCaptureFixture,
    autojump_clock: trio.testing.MockClock,
    failures: list[PipelineError | None],
    lines: list[str],
) -> None:
    """While it stays the same nothing is repeated; in the end it is said to be well."""
    caplog.set_level(logging.INFO)
    counted = Counted()
    await settle({"store": Dependency(*failures).about}, counted.heard)
    assert said(caplog) == [
        *((logging.ERROR, line) for line in lines),
        (logging.INFO, "as it should be"),
    ]
    assert counted.outcomes == [
        *(f"store: {failure}" for failure in failures if failure is not None),
        "store: well",
    ]


async def test_one_does_not_hold_up_the_others(autojump_clock: trio.testing.MockClock) -> None:
    """Each is tried by itself, less and less often, and again and again."""
    well, sick = Dependency(), Dependency(*[DENIED] * 12)
    await settle({"queue": well.about, "store": sick.about}, Counted().heard)
    assert well.looked_at == [sick.looked_at[0]]
    pauses = [
        later - earlier for earlier, later in zip(sick.looked_at, sick.looked_at[1:], strict=False)
    ]
    assert pauses == sorted(pauses)
    assert pauses[-1] == pytest.approx(PAUSE_MAX_S)
