"""A worker whose encoders the kernel ends: told apart, tried with less, one part fewer at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from pipeline.errors import Stage, TranscodeFailed
from pipeline.ports import Order
from pipeline.tasks import TaskState
from tests.e2e.worker_rig import Rig, ScriptedTranscoder, failing

LIMIT = 512 << 20
KILLED = TranscodeFailed("ffmpeg was killed, while transcoding.", code="killed", log_tail="tail")


class Memory:
    """A container whose kernel counts when the test says so."""

    def __init__(self, kills: int | None = 0) -> None:
        self.limit_bytes: int | None = LIMIT
        self.count = kills

    def kills(self) -> int | None:
        return self.count

    def ended(self, error: TranscodeFailed) -> Callable[[Order], Awaitable[None]]:
        """The kernel ends the encoder; it counts first."""

        async def end(order: Order) -> None:
            assert self.count is not None
            self.count += 1
            raise error

        return end


async def test_a_lack_of_memory_is_told_apart(rig: Rig, make_peer: Any) -> None:
    """Its code says so, with how much there was; the next attempts know how often it was."""
    memory = Memory(kills=7)
    transcoder = ScriptedTranscoder(memory.ended(KILLED), memory.ended(KILLED))
    async with rig.working(transcoder, make_peer("one"), slots=1, memory=memory) as worker:
        report = await rig.settled(await rig.submit(attempts_max=4))
        assert worker.slots == 1, "the last one is not withheld"
    assert report.state is TaskState.DONE
    assert report.failures == {Stage.TRANSCODE: 2}
    errors = [attempt.error for attempt in report.attempts if attempt.error is not None]
    assert [(error.code, error.memory_bytes, error.log_tail) for error in errors] == [
        ("out_of_memory", LIMIT, "tail"),
        ("out_of_memory", LIMIT, "tail"),
    ]
    assert str(LIMIT) in errors[0].message
    assert [order.shortages for order in transcoder.orders] == [0, 1, 2]


@pytest.mark.parametrize(
    ("kills", "error", "code"),
    [
        pytest.param(7, KILLED, "killed", id="killed by a person"),
        pytest.param(None, KILLED, "killed", id="a kernel that does not count"),
        pytest.param(7, TranscodeFailed("It stalled.", code="stalled"), "stalled", id="stalled"),
    ],
)
async def test_what_is_no_lack_of_memory(
    rig: Rig, make_peer: Any, kills: int | None, error: TranscodeFailed, code: str
) -> None:
    """Where the kernel has counted nothing, or something else went wrong, all stays as it was."""
    transcoder = ScriptedTranscoder(failing(error))
    peer, memory = make_peer("one"), Memory(kills)
    async with rig.working(transcoder, peer, slots=2, memory=memory) as worker:
        report = await rig.settled(await rig.submit())
        assert worker.slots == 2
    assert report.attempts[0].error is not None
    assert (report.attempts[0].error.code, report.attempts[0].error.memory_bytes) == (code, None)
    assert [order.shortages for order in transcoder.orders] == [0, 0]


async def test_who_failed_beside_a_kill_did_not_run_out_of_memory(rig: Rig, make_peer: Any) -> None:
    """Only who was killed himself; what another slot lost meanwhile changes no other failure."""
    memory = Memory()
    transcoder = ScriptedTranscoder(memory.ended(TranscodeFailed("Odd.", code="ffmpeg_failed")))
    async with rig.working(transcoder, make_peer("one"), memory=memory):
        report = await rig.settled(await rig.submit())
    assert report.attempts[0].error is not None
    assert report.attempts[0].error.code == "ffmpeg_failed"


async def test_one_part_fewer_at_a_time(rig: Rig, make_peer: Any) -> None:
    """After a shortage the slot stays empty, and the others can be told."""
    memory = Memory()
    transcoder = ScriptedTranscoder(memory.ended(KILLED), memory.ended(KILLED))
    async with rig.working(transcoder, make_peer("one"), slots=4, memory=memory) as worker:
        assert worker.slots == 4
        report = await rig.settled(await rig.submit())
        assert report.state is TaskState.DONE
        assert worker.slots == 2
        assert (await rig.settled(await rig.submit())).state is TaskState.DONE
