"""Threads that let go, and workers that share a list."""

from __future__ import annotations

import threading

import pytest
import trio
from trio.testing import MockClock

from pipeline.stores.s3.crew import PAUSES_S, persist, share_out
from pipeline.stores.s3.problems import Lost, Refused
from pipeline.stores.s3.threads import GRACE_S, Stop, Stopped, Threads


async def test_workers_share_the_items() -> None:
    """Each item is worked on once, and never more of them at a time than there are workers."""
    busy, most, done = 0, 0, []

    async def work(item: int) -> None:
        nonlocal busy, most
        busy += 1
        most = max(most, busy)
        await trio.lowlevel.checkpoint()
        done.append(item)
        busy -= 1

    await share_out(range(10), 3, work)
    assert sorted(done) == list(range(10))
    assert most == 3


async def test_the_first_failure_ends_it() -> None:
    """It comes out as it is, not in a group, and the others are cancelled."""
    cancelled = []

    async def work(item: int) -> None:
        if item == 1:
            raise KeyError(item)
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            cancelled.append(item)
            raise

    with pytest.raises(KeyError):
        await share_out(range(5), 3, work)
    assert sorted(cancelled) == [0, 2]


@pytest.mark.parametrize(
    ("failures", "calls", "succeeds"),
    [
        ([], 1, True),
        ([Lost("x")], 2, True),
        ([Lost("x"), Refused(503, "SlowDown", "")], 3, True),
        ([Lost("x")] * 3, 3, False),
        ([Refused(403, "AccessDenied", "")], 1, False),
    ],
)
async def test_persistence(
    failures: list[Exception], calls: int, succeeds: bool, autojump_clock: MockClock
) -> None:
    """What may pass is tried three times, with pauses; what will not is raised at once."""
    waiting, made = list(failures), 0

    async def call() -> str:
        nonlocal made
        made += 1
        if waiting:
            raise waiting.pop(0)
        return "done"

    began = trio.current_time()
    if succeeds:
        assert await persist(call) == "done"
    else:
        with pytest.raises(type(failures[-1])):
            await persist(call)
    assert made == calls
    assert trio.current_time() - began == pytest.approx(sum(PAUSES_S[: calls - 1]))


async def test_a_cancelled_thread_lets_go() -> None:
    """The caller leaves when the thread has seen that it should stop, and not before."""
    left = threading.Event()
    began = trio.Event()
    token = trio.lowlevel.current_trio_token()

    def work(stop: Stop) -> None:
        token.run_sync_soon(began.set)
        try:
            while True:
                stop.check()
        except Stopped:
            left.set()
            raise

    async with trio.open_nursery() as nursery:
        nursery.start_soon(Threads(1).run, work)
        await began.wait()
        nursery.cancel_scope.cancel()
    assert left.is_set()


async def test_a_thread_that_hangs_is_left_behind() -> None:
    """Nobody waits longer than the grace; its place is free again when it ends."""
    release = threading.Event()
    threads = Threads(1)
    with trio.fail_after(GRACE_S + 5):
        with pytest.raises(Lost, match="did not finish its answer"):
            await threads.run(lambda _: release.wait(), within_s=0.01)
        with trio.move_on_after(0.01) as scope:
            await threads.run(lambda _: None)
        assert scope.cancelled_caught
        release.set()
        assert await threads.run(lambda _: "free") == "free"


async def test_a_wait_is_ended() -> None:
    """Who waits for an answer is woken by the socket's end, and stops whatever that looks like."""

    class Answer:
        def __init__(self) -> None:
            self.ended = threading.Event()

        def shutdown(self) -> None:
            self.ended.set()

    answer, began = Answer(), trio.Event()
    token = trio.lowlevel.current_trio_token()
    seen: list[type[BaseException]] = []

    def work(stop: Stop) -> None:
        try:
            with stop.watching(answer):
                token.run_sync_soon(began.set)
                assert answer.ended.wait(10)
                raise OSError("a socket that was shut down")
        except Stopped as stopped:
            seen.append(type(stopped))
            raise

    async with trio.open_nursery() as nursery:
        nursery.start_soon(Threads(1).run, work)
        await began.wait()
        nursery.cancel_scope.cancel()
    assert seen == [Stopped]
