"""A peer that fails what others finish stops taking work, instead of burning through the queue."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from peer.conduct_file import ConductFile
from pipeline.errors import SourceRejected, TranscodeFailed
from pipeline.ports import Order
from pipeline.quarantine import ConductRules
from pipeline.stores.directory import DirectoryStore
from pipeline.tasks import TaskState
from pipeline.worker import Worker
from tests.e2e.worker_rig import Rig, Script, ScriptedTranscoder, failing, until

QUICK = ConductRules(
    probation_s=0.2, probation_max_s=0.4, quarantine_s=3600.0, quarantine_max_s=3600.0
)
FAILED = TranscodeFailed("ffmpeg crashed", code="ffmpeg_failed")


class Broken:
    """A machine on which every encode fails, until it is repaired."""

    def __init__(self) -> None:
        self.repaired = False
        self.tried = 0

    async def __call__(self, _: Order) -> None:
        self.tried += 1
        if not self.repaired:
            raise FAILED


def always(script: Script) -> ScriptedTranscoder:
    return ScriptedTranscoder(*[script] * 100)


async def on_probation(worker: Worker) -> None:
    await until(lambda: "quarantine" in worker.trouble)


async def test_a_broken_peer_is_quarantined(rig: Rig, make_peer: Any) -> None:
    """It burns a handful of attempts; the others finish everything; it says what is the matter and
    takes nothing more, until a person has seen to it."""
    machine = Broken()
    async with rig.working(always(machine), make_peer("broken"), quarantine=QUICK) as broken:
        tasks = [await rig.submit(attempts_max=50) for _ in range(12)]
        await on_probation(broken)
        async with rig.working(ScriptedTranscoder(), make_peer("whole")):
            reports = [await rig.settled(task) for task in tasks]
            await until(lambda: broken.quarantined)
            burnt = machine.tried
            more = [await rig.settled(await rig.submit()) for _ in range(3)]

        assert {report.state for report in reports} == {TaskState.DONE}
        assert burnt <= 12
        assert sum(sum(report.failures.values()) for report in reports) == burnt
        assert [dict(report.failures) for report in more] == [{}] * 3, "it takes nothing"
        assert "ffmpeg crashed" in (broken.quarantined or "")
        assert broken.trouble["quarantine"] == broken.quarantined

        machine.repaired = True
        broken.release()
        report = await rig.settled(await rig.submit())
        assert report.state is TaskState.DONE
        assert dict(broken.trouble) == {}


async def test_a_restart_makes_no_broken_peer_a_good_one(rig: Rig, make_peer: Any) -> None:
    """The next life of a quarantined peer takes nothing either, until a person has seen to it; the
    one after that trusts itself."""
    machine, diary = Broken(), ConductFile(rig.directory / "conduct")
    peer = make_peer("broken")
    async with rig.working(always(machine), peer, quarantine=QUICK, diary=diary) as worker:
        tasks = [await rig.submit(attempts_max=50) for _ in range(4)]
        await on_probation(worker)
        async with rig.working(ScriptedTranscoder(), make_peer("whole")):
            for task in tasks:
                await rig.settled(task)
            await until(lambda: worker.quarantined)
        why, burnt = worker.quarantined, machine.tried

    async with rig.working(always(machine), peer, quarantine=QUICK, diary=diary) as worker:
        assert worker.quarantined == why
        async with rig.working(ScriptedTranscoder(), make_peer("whole")):
            for task in [await rig.submit() for _ in range(3)]:
                assert (await rig.settled(task)).state is TaskState.DONE
        assert machine.tried == burnt, "it takes nothing"
        worker.release()

    machine.repaired = True
    async with rig.working(always(machine), peer, quarantine=QUICK, diary=diary) as worker:
        assert (worker.quarantined, worker.trouble) == (None, {})
        assert (await rig.settled(await rig.submit())).state is TaskState.DONE


async def test_probation_survives_a_restart(rig: Rig, make_peer: Any) -> None:
    """A machine that fails three tasks and is started again does not get three more at once."""
    machine, diary = Broken(), ConductFile(rig.directory / "conduct")
    slow = replace(QUICK, probation_s=3600.0, probation_max_s=3600.0)
    peer = make_peer("broken")
    async with rig.working(always(machine), peer, quarantine=slow, diary=diary) as worker:
        for _ in range(3):
            await rig.submit(attempts_max=50)
        await on_probation(worker)

    tried = machine.tried
    async with rig.working(always(machine), peer, quarantine=slow, diary=diary) as worker:
        assert "on probation" in worker.trouble["quarantine"]
        async with rig.working(ScriptedTranscoder(), make_peer("whole")):
            assert (await rig.settled(await rig.submit())).state is TaskState.DONE
    assert machine.tried == tried


async def test_broken_sources_quarantine_nobody(rig: Rig, make_peer: Any) -> None:
    """Somebody submits a folder of what is no video: the peer is not to blame and goes on."""
    rejected = SourceRejected("this is not a video", code="not_media")
    scripts = [failing(rejected)] * 6
    async with rig.working(
        ScriptedTranscoder(*scripts), make_peer("one"), quarantine=QUICK
    ) as worker:
        reports = [await rig.settled(await rig.submit()) for _ in range(6)]
        assert worker.trouble == {}
        good = await rig.settled(await rig.submit())

    assert {report.state for report in reports} == {TaskState.ESCALATED}
    assert good.state is TaskState.DONE


async def test_a_store_that_is_not_mounted(rig: Rig, make_peer: Any, tmp_path: Path) -> None:
    """To one peer every source is missing, which no retry can help: it escalates three tasks, a few
    that were begun by then, and not the queue."""
    (tmp_path / "mount point").mkdir()
    empty = DirectoryStore(tmp_path / "mount point", create=False)
    slow = replace(QUICK, probation_s=3600.0, probation_max_s=3600.0)
    tasks = [await rig.submit() for _ in range(12)]
    async with rig.working(
        ScriptedTranscoder(), make_peer("elsewhere"), store=empty, quarantine=slow
    ) as worker:
        await on_probation(worker)
        async with rig.working(ScriptedTranscoder(), make_peer("whole")):
            reports = [await rig.settled(task) for task in tasks]
        assert "no_such_object" in worker.trouble["quarantine"]

    states = [report.state for report in reports]
    assert 3 <= states.count(TaskState.ESCALATED) <= 4
    assert states.count(TaskState.DONE) == 12 - states.count(TaskState.ESCALATED)


async def test_sources_that_really_are_missing(rig: Rig, make_peer: Any) -> None:
    """Somebody removed them: they are escalated all the same, with pauses between them, and the
    first that is there ends the doubt."""
    missing = [await rig.submit(source=f"sources/{number}/gone.mp4") for number in range(4)]
    for number in range(4):
        await rig.store.remove(f"sources/{number}")
    async with rig.working(
        ScriptedTranscoder(), make_peer("one"), quarantine=QUICK, slots=1
    ) as worker:
        reports = [await rig.settled(task) for task in missing]
        good = await rig.settled(await rig.submit())
        await until(lambda: worker.trouble == {})

    assert [report.error.code for report in reports if report.error] == ["no_such_object"] * 4
    assert {report.state for report in reports} == {TaskState.ESCALATED}
    assert good.state is TaskState.DONE


async def test_a_peer_that_is_alone_is_not_convicted(rig: Rig, make_peer: Any) -> None:
    """Everything fails, and nobody has done better: one task at a time, and the first success
    ends it."""
    scripts = [failing(FAILED)] * 8
    async with rig.working(
        ScriptedTranscoder(*scripts), make_peer("alone"), quarantine=QUICK
    ) as worker:
        tasks = [await rig.submit(attempts_max=50) for _ in range(4)]
        await on_probation(worker)
        assert worker.quarantined is None
        reports = [await rig.settled(task) for task in tasks]

    assert {report.state for report in reports} == {TaskState.DONE}
    assert sum(sum(report.failures.values()) for report in reports) == 8
    assert worker.trouble == {}
