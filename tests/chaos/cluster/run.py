"""One run: a stack on a lab, work, faults, a quiet time, and the checker's word.

Everything of it lies in a folder of its own: the timeline from the first moment, the report with
its picture at the end, and after a broken promise all that there is to know (`evidence`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import trio

from deploy.lab.cluster import Lab, Say, keep_quiet
from deploy.lab.errors import LabError
from deploy.lab.stack import Stack
from tests.chaos.cluster import report
from tests.chaos.cluster.checker import check
from tests.chaos.cluster.clients import Clients
from tests.chaos.cluster.clips import make_clips
from tests.chaos.cluster.evidence import keep_evidence
from tests.chaos.cluster.facts import Facts, Hit
from tests.chaos.cluster.faults import Breaker
from tests.chaos.cluster.orders import Clip, draw_orders
from tests.chaos.cluster.reading import clear_up, read_facts
from tests.chaos.cluster.schedule import Ground, Lane, Schedule, draw_schedule
from tests.chaos.cluster.settling import settle
from tests.chaos.cluster.site import AWAY, Site
from tests.chaos.cluster.timeline import FILE, Timeline
from tests.chaos.cluster.watching import watch

MORE = Path(__file__).with_name("chaos.yml")
PEERS = 3
PEER_CPUS = "1"
PEER_MEMORY = "1G"
SETTINGS = {
    "GRAPEVINE_SCALING_QUEUE_LOW": "1",
    "GRAPEVINE_SCALING_QUEUE_HIGH": "3",
    "GRAPEVINE_SCALING_WAIT_S": "10",
    "GRAPEVINE_SCALING_CPU_HIGH": "1",
    "GRAPEVINE_SCALING_CONTAINERS_MIN": "2",
    "GRAPEVINE_SCALING_CONTAINERS_MAX": "4",
    "GRAPEVINE_SCALING_DOWN_WINDOW_S": "20",
    "GRAPEVINE_SCALING_AVERAGE_S": "5",
}
"""Small numbers and short memories, so that minutes see the cluster grow and shrink; and no word on
processors, which the nodes of a lab share."""

READ_WITHIN_S = 60.0
PAUSE_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What to run.

    Args:
        minutes: From the first task to the checker, where the work is over by then.
        folder: For all that is to be known of the run.
    """

    seed: int
    minutes: float
    nodes: int
    managers: int
    folder: Path

    @property
    def again(self) -> str:
        """What to type to run it again."""
        return (
            f"python -m tests.chaos.cluster --seed {self.seed} --minutes {self.minutes:g}"
            f" --nodes {self.nodes} --managers {self.managers}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How a run ended.

    Args:
        objections: What the checker has said; empty if every promise was kept.
        text: The report.
    """

    objections: list[str]
    text: str


def run(lab: Lab, setting: Setting, say: Say = keep_quiet) -> Verdict:
    """Run it on a lab that is up and has the images. Afterwards the lab is fit for nothing else.

    Returns:
        Its verdict; whatever else goes wrong is raised, and says how to repeat the run, too.
    """
    try:
        return _deploy_and_run(lab, setting, say)
    except Exception as error:
        error.add_note(f"Again: {setting.again}\nEverything of it: {setting.folder}")
        raise


def _deploy_and_run(lab: Lab, setting: Setting, say: Say) -> Verdict:
    folder = setting.folder
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "again.txt").write_text(f"{setting.again}\n")
    stack = Stack(lab, say)
    ground = Ground(
        nodes=[node.name for node in lab.plan.members],
        managers=lab.plan.managers,
        data=lab.plan.members[0].name,
    )
    schedule = draw_schedule(setting.seed, setting.minutes, ground)
    say(f"Seed {setting.seed}: {len(schedule.faults)} faults in {schedule.chaos_s:.0f} s. {folder}")
    stack.deploy(
        peers=PEERS,
        environment={"GRAPEVINE_PEER_CPUS": PEER_CPUS, "GRAPEVINE_PEER_MEMORY": PEER_MEMORY},
        settings=SETTINGS,
        files=[MORE],
    )
    with tempfile.TemporaryDirectory() as directory:
        clips = make_clips(Path(directory))
    stack.wait_until_well()
    return trio.run(_run, Site(stack), setting, schedule, ground, clips, say)


def unproven(schedule: Schedule, hits: Sequence[Hit]) -> Iterator[str]:
    """Say where so much was missed that to keep every promise meant little.

    Some always is: who was to be hit has just gone. Half of a lane is to be done.
    """
    for lane in Lane:
        drawn = sum(fault.lane is lane for fault in schedule.faults)
        done = sum(hit.lane is lane for hit in hits)
        if done < drawn // 2:
            yield f"of {drawn} faults that {lane} were to have only {done} happened"


async def _run(
    site: Site,
    setting: Setting,
    schedule: Schedule,
    ground: Ground,
    clips: Mapping[Clip, bytes],
    say: Say,
) -> Verdict:
    timeline = Timeline(setting.folder / FILE)
    timeline.note("run", seed=setting.seed, minutes=setting.minutes, chaos_s=schedule.chaos_s)
    clients = Clients(site, clips, timeline, seed=setting.seed)
    breaker = Breaker(stack=site.stack, timeline=timeline, burst=clients.burst, data=ground.data)
    facts: Facts | None = None
    objections = ["the run was broken off"]
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(watch, site, timeline, seed=setting.seed))
            with trio.move_on_after(schedule.ends_s):
                async with trio.open_nursery() as chaos:
                    orders = draw_orders(setting.seed, schedule.chaos_s)
                    chaos.start_soon(clients.run, orders, schedule.chaos_s)
                    chaos.start_soon(breaker.run, schedule)
            await breaker.restore()
            timeline.note("quiet")
            say(f"Quiet after {timeline.now_s:.0f} s")
            settled = await settle(site, timeline, until_s=schedule.ends_s + schedule.patience_s)
            if settled.over:
                await clear_up(site)
            read = partial(
                read_facts,
                site,
                settled,
                handed=clients.handed,
                nonsense=clients.nonsense,
                hits=breaker.hits,
            )
            facts = await _insist(read, say)
            objections = [*check(facts), *unproven(schedule, breaker.hits)]
            nursery.cancel_scope.cancel()
    finally:
        with trio.CancelScope(shield=True):
            timeline.note("verdict", objections=objections)
            if facts is None:  # the dead could not say what happened to them
                with suppress(LabError):
                    await breaker.restore()
            if objections:
                keep = partial(keep_evidence, site, facts, setting.folder)
                await trio.to_thread.run_sync(keep)
            text = report.write(setting.folder, objections, facts, again=setting.again)
    return Verdict(objections=objections, text=text)


async def _insist(read: Callable[[], Facts], say: Say) -> Facts:
    """Read, and again where a single one of some thousand calls was not answered in time."""
    give_up_at = trio.current_time() + READ_WITHIN_S
    while True:
        try:
            return await trio.to_thread.run_sync(read)
        except (*AWAY, LabError) as error:
            if trio.current_time() > give_up_at:
                raise
            say(f"Not read yet: {error}")
        await trio.sleep(PAUSE_S)
