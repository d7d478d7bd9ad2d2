"""`peerctl demo --scale` from its first line to its last: one peer, a burst of clips, and what
scaling makes of it: more containers, a further node, and none of them when the work is done.

One peer is started here; all others are started and stopped by scaling itself, in the peer that
leads. They inherit the lifeline, so they end with this process whatever happens to it.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from math import inf
from pathlib import Path
from uuid import uuid4

from rich.console import Console
from rich.text import Text

from peer.client import Peer
from peer.commands.session import Session, shaped
from peer.demo.begun import Begun
from peer.demo.burst_view import BurstScene, ShowBurst, told, view_for
from peer.demo.clip import make_clip
from peer.demo.crew import ANSWER_WITHIN_S, Crew
from peer.demo.growth import TOLD, Growth, at_rest
from peer.demo.run import Plan, clear_up, prepare, tell_kept
from peer.demo.view import milestone_line
from peer.errors import DemoFailed, PeerError
from peer.protocol import ShownTask
from peer.scale.protocol import ShownScaling
from peer.screen.console import moves
from peer.screen.words import clock_text
from pipeline.ports import EventRow
from pipeline.tasks import TaskReport

NAME = "demo-1"
CLIPS = 12
"""Enough for four containers to be wanted; few enough that 2 processors are done in 20 s."""
CLIP_S = 2
LADDER = "640x360@500k"

SETTINGS = (
    "peer.node=worker-1",
    "scaling.orchestrator=local",
    "scaling.containers_per_node=2",
    "scaling.containers_max=4",
    "scaling.nodes_max=2",
    "scaling.queue_low=1",
    "scaling.queue_high=3",
    "scaling.wait_s=2",
    # Minutes where machines are started and paid for; here it is to be seen.
    "scaling.interval_s=1",
    "scaling.down_window_s=5",
    "scaling.node_age_min_s=0",
    "scaling.average_s=2",
    # All nodes are this machine, and ffmpeg takes all of it: its use says nothing about a node.
    "scaling.cpu_high=1",
    "scaling.cpu_low=0",
    "scaling.memory_high=1",
)

LEADER_WITHIN_S = 60.0
"""A leader is proposed 10 s after it was started; then what an earlier demo left is put away."""
ALL_WITHIN_S = 150.0
LOOK_S = 0.5
DRAW_S = 0.125


def run(plan: Plan, console: Console) -> bool:
    """Run it; return whether all of it was seen, and no task failed or was done twice.

    Raises:
        DemoFailed: It could not be set up.
        CommandFailed: The peer refused the video or the ladder.
        KeyboardInterrupt: Ctrl-C; everything has been stopped.
    """
    prepare(plan.data_dir)
    video = plan.video or make_clip(plan.ffmpeg, plan.data_dir / "small-clip.mp4", CLIP_S)
    title = f"{CLIPS} times {video.name} → {plan.ladder}"
    scene = BurstScene(title=title, doing="starting one peer")
    try:
        with view_for(console) as show:
            try:
                with Crew(plan.data_dir, (NAME,), (*plan.settings, *SETTINGS)) as crew:
                    _perform(scene, crew, plan, show, video)
                    scene.doing = "stopping the peer"
                    show(scene)
            finally:
                scene.doing = "all peers have stopped"
                show(scene)
    except (KeyboardInterrupt, SystemExit):
        console.print("stopped")
        raise
    good = _tell(scene, console)
    tell_kept(plan.data_dir, console)
    return good


def _perform(scene: BurstScene, crew: Crew, plan: Plan, show: ShowBurst, video: Path) -> None:
    session = Session(data_dir=str(plan.data_dir), config_file=Path("/dev/null"), name=NAME)
    peer = Peer(crew.places.peer(NAME).control_socket, answer_timeout_s=ANSWER_WITHIN_S)
    begun = Begun(plan.data_dir)
    with _looking(scene, crew, peer):
        _wait_for(scene, crew, show, lambda: _has_started(scene, crew))
        clear_up(session, begun, "left behind by a demo that was killed")
        scene.doing = "waiting for a leader: chosen when ten seconds have changed nothing"
        if not _wait_for(
            scene, crew, show, lambda: at_rest(scene.scaling, scene.began_at), LEADER_WITHIN_S
        ):
            raise DemoFailed(
                f"nobody scales after {LEADER_WITHIN_S:g} s; {crew.log(NAME)} may say why"
            )
        scene.doing = f"handing in {scene.title}, all at once"
        show(scene)
        growth = scene.growth = Growth(began_at=datetime.now(UTC))
        try:
            for number in range(1, CLIPS + 1):
                task_id = str(uuid4())
                begun.add(task_id)
                scene.task_ids.append(task_id)
                copy = _named(video, plan.data_dir, number)
                for _ in session.submit(task_id=task_id, path=str(copy), ladder=plan.ladder):
                    pass
                copy.unlink()
                show(scene)
            scene.doing = "the work is done by as many as it takes"
            _wait_for(scene, crew, show, lambda: scene.is_done, ALL_WITHIN_S)
            scene.doing = "the work is done; what is not needed any more goes"
            _wait_for(
                scene,
                crew,
                show,
                lambda: at_rest(scene.scaling, scene.began_at) and not growth.missing,
                ALL_WITHIN_S,
            )
        except BaseException:
            scene.doing = "stopping"
            show(scene)
            clear_up(session, begun, "the demo was stopped")
            raise
        scene.took_s = scene.seconds
        tasks = [session.ask(ShownTask, "task", id=task_id) for task_id in scene.task_ids]
        growth.notice_tasks(tasks)
        _look_at_events(growth, peer)
        for task_id in scene.task_ids:
            begun.forget(task_id)


def _has_started(scene: BurstScene, crew: Crew) -> bool:
    return bool(scene.peers) and crew.check_started(scene.peers, scene.began)


def _named(video: Path, data_dir: Path, number: int) -> Path:
    """A name of its own for each task, so that people can tell them apart."""
    copy = data_dir / f"{video.stem}-{number}{video.suffix}"
    copy.unlink(missing_ok=True)
    try:
        copy.hardlink_to(video)
    except OSError:  # another file system
        shutil.copyfile(video, copy)
    return copy


def _wait_for(
    scene: BurstScene,
    crew: Crew,
    show: ShowBurst,
    condition: Callable[[], bool],
    within_s: float = inf,
) -> bool:
    """Draw until it is so; False when it is not so in time.

    Raises:
        DemoFailed: The peer has ended.
    """
    until = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > until:
            return False
        if scene.peers:
            crew.check_alive(scene.peers)
        show(scene)
        time.sleep(DRAW_S)
    show(scene)
    return True


@contextmanager
def _looking(scene: BurstScene, crew: Crew, peer: Peer) -> Iterator[None]:
    """Keep the scene up to date while the block runs."""
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            scene.peers = crew.look()
            scene.table = crew.table() or scene.table
            scene.note_containers()
            with suppress(PeerError):
                scene.scaling = shaped(ShownScaling, peer.ask("scale"))
            if scene.growth is not None:
                with suppress(PeerError):
                    scene.tasks = _ours(
                        shaped(list[TaskReport], peer.ask("tasks", limit=100)), scene
                    )
                    _look_at_events(scene.growth, peer)
            over.wait(LOOK_S)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(timeout=5.0)


def _ours(reports: list[TaskReport], scene: BurstScene) -> list[TaskReport]:
    return [report for report in reports if str(report.id) in scene.task_ids]


def _look_at_events(growth: Growth, peer: Peer) -> None:
    for kind in TOLD:
        *rows, _ = peer.follow("events", type=kind, limit=100)
        growth.notice_events(shaped(list[EventRow], rows))


def _tell(scene: BurstScene, console: Console) -> bool:
    """Say what has happened; return whether it was all, and at nobody's cost."""
    growth = scene.growth
    if growth is None:
        return False
    if growth.milestones:
        console.print("what scaling did, and why, in seconds after the burst:", style="title")
    for milestone in growth.milestones:
        if moves(console):
            console.print(told(milestone))
        else:
            console.print(milestone_line(milestone), soft_wrap=True)
    for fault in growth.faults:
        console.print(fault, style="bad", soft_wrap=True)
    if growth.missing:
        console.print(f"not seen: {', '.join(growth.missing)}", style="bad")
    if not at_rest(scene.scaling, scene.began_at):
        console.print("it has not come back to one container on one node", style="bad")
    good = not growth.missing and not growth.faults and at_rest(scene.scaling, scene.began_at)
    if good:
        console.print(
            Text.assemble(
                ("done", "done"),
                f" in {clock_text(scene.took_s)}: {CLIPS} tasks, each at the first attempt, "
                f"by up to {scene.most} containers",
            )
        )
    return good
