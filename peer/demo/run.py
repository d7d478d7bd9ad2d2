"""The demo from its first line to its last: start the peers, hand in the video, watch, list.

The picture is drawn by the main thread, which therefore also gets Ctrl-C; what may block (asking
the peers, watching the task) happens in threads that only ever replace a value.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from rich.console import Console
from rich.text import Text

from peer.client import Peer
from peer.commands.session import Session
from peer.demo.begun import Begun
from peer.demo.clip import LONG_DURATION_S, make_clip
from peer.demo.crew import ANSWER_WITHIN_S, Crew
from peer.demo.recovery import Recovery
from peer.demo.view import Scene, Show, milestone_line, view_for
from peer.errors import DemoFailed, PeerError
from peer.protocol import STOPPED, ShownTask
from peer.screen.page import error_block, needs_text, output_lines
from peer.screen.words import clock_text, size_text
from pipeline.tasks import TaskState

NAMES = ("demo-1", "demo-2", "demo-3")
OURS = re.compile(r"demo-[123]|worker-\d+\.\d+")
"""The peers of a demo, those of one that scales included."""

KILL_FROM = 0.15
"""How much of the encode must be done, so that it is in the middle."""

KILL_SETTINGS = ("ledger.lease_s=60",)
"""The lease alone would put the work back, too, but a minute later: what is seen is the gossip."""

DEAD_WITHIN_S = 20.0
"""How long the others may take to be sure, at most; six to eight seconds are usual."""

LOOK_S = 0.5
DRAW_S = 0.125


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do.

    Args:
        video: None to make a clip.
        data_dir: For everything the demo keeps; made when it is missing.
        ffmpeg: What makes the clip.
        settings: `section.key=value` texts for the peers.
        kill: Kill the peer that works on the video in the middle of its encode.
    """

    video: Path | None
    ladder: str
    data_dir: Path
    ffmpeg: Path
    settings: tuple[str, ...] = ()
    kill: bool = False


def run(plan: Plan, console: Console) -> bool:
    """Run the demo; return whether every output was made, and every stage of a recovery was seen.

    Raises:
        DemoFailed: It could not be set up.
        CommandFailed: A peer refused the video or the ladder.
        KeyboardInterrupt: Ctrl-C; everything has been stopped.
    """
    prepare(plan.data_dir)
    video = plan.video or _own_clip(plan)
    settings = (*plan.settings, *(KILL_SETTINGS if plan.kill else ()))
    scene = Scene(video=video.name, ladder=plan.ladder, doing="starting three peers")
    session = Session(data_dir=str(plan.data_dir), config_file=Path("/dev/null"))
    shown: ShownTask | None = None
    took_s = 0.0
    try:
        with view_for(console) as show:
            try:
                with Crew(plan.data_dir, NAMES, settings) as crew:
                    shown = _perform(scene, crew, session, show, video, kill=plan.kill)
                    took_s = scene.seconds
                    scene.doing = "stopping the peers"
                    show(scene)
            finally:
                _close(scene, show)
    except (KeyboardInterrupt, SystemExit):
        if shown is None:
            console.print("stopped; nothing was made")
        else:
            _tell(shown, took_s, console)
        raise
    _tell(shown, took_s, console)
    tell_kept(plan.data_dir, console)
    return shown.state is TaskState.DONE and (not plan.kill or _tell_recovery(scene, console))


def _own_clip(plan: Plan) -> Path:
    if plan.kill:
        return make_clip(plan.ffmpeg, plan.data_dir / "long-clip.mp4", LONG_DURATION_S)
    return make_clip(plan.ffmpeg, plan.data_dir / "clip.mp4")


def _close(scene: Scene, show: Show) -> None:
    """Show that nothing runs any more; nothing at all, where nothing had been started."""
    if scene.peers:
        scene.peers = [
            replace(peer, state="stopped" if peer.state != "killed" else peer.state, status=None)
            for peer in scene.peers
        ]
        scene.table = None  # nobody is left who could say
        scene.doing = "all peers have stopped"
        show(scene)


def prepare(data_dir: Path) -> None:
    """Make the directory, or make sure that it is a demo's and not where somebody works."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DemoFailed(
            f"cannot make {data_dir}: {error.strerror}; choose another with --data-dir"
        ) from error
    names = [place.name for place in (data_dir / "peers").glob("*")]
    others = [name for name in names if not OURS.fullmatch(name)]
    if others:
        raise DemoFailed(
            f"{data_dir} is the data directory of the peer {min(others)}, not of a demo; "
            "choose another with --data-dir"
        )


def _perform(
    scene: Scene, crew: Crew, session: Session, show: Show, video: Path, *, kill: bool
) -> ShownTask:
    with _looking(scene, crew):
        while not crew.check_started(scene.peers, scene.began) or not scene.peers:
            show(scene)
            time.sleep(DRAW_S)
        show(scene)
        begun = Begun(crew.places.data_dir)
        clear_up(session, begun, "left behind by a demo that was killed")
        scene.doing = "handing in the video"
        show(scene)
        task_id = str(uuid4())
        begun.add(task_id)
        try:
            for _ in session.submit(
                task_id=task_id, path=str(video.absolute()), ladder=scene.ladder
            ):
                pass
            watch = _Watch(session, task_id)
            scene.doing = "transcoding"
            while watch.goes_on():
                scene.report = watch.report
                if kill and scene.recovery is None:
                    scene.recovery = _kill_the_busy(scene, crew)
                crew.check_alive(scene.peers)
                show(scene)
                time.sleep(DRAW_S)
        except BaseException:
            scene.doing = "stopping"
            show(scene)
            clear_up(session, begun, "the demo was stopped")
            if scene.report is not None and scene.report.state not in STOPPED:
                scene.report = replace(scene.report, state=TaskState.CANCELLED)
            raise
        scene.report = watch.end()
        begun.forget(task_id)
        if scene.recovery is not None:
            scene.doing = "looking back at what followed"
            show(scene)
            _look_back(scene.recovery, crew, session, task_id)
        show(scene)
        return scene.report


def _kill_the_busy(scene: Scene, crew: Crew) -> Recovery | None:
    """Kill the peer that works on the video, once it is in the middle of its encode."""
    report, table = scene.report, scene.table
    progress = report.progress if report else None
    if report is None or progress is None or table is None or report.holder not in NAMES:
        return None
    members = {member.name: member for member in table.members}
    everybody = all(name in members and members[name].state == "alive" for name in NAMES)
    if progress.step != "transcode" or progress.fraction < KILL_FROM or not everybody:
        return None
    scene.doing = f"{report.holder} was killed; the others go on"
    killed_at = datetime.now(UTC)
    return Recovery(
        name=report.holder,
        uid=members[report.holder].uid,
        pid=crew.kill(report.holder),
        killed_at=killed_at,
        attempt=report.attempt,
        fraction=progress.fraction,
    )


def _look_back(recovery: Recovery, crew: Crew, session: Session, task_id: str) -> None:
    """Complete what was seen, from what the survivors and the ledger have kept.

    A quick machine has finished the video before the others are sure of the death.
    """
    deadline = time.monotonic() + DEAD_WITHIN_S
    while True:
        with suppress(PeerError):
            recovery.notice_task(session.ask(ShownTask, "task", id=task_id))
        _ask_survivors(recovery, crew)
        if not recovery.missing or time.monotonic() > deadline:
            return
        time.sleep(LOOK_S)


def _ask_survivors(recovery: Recovery, crew: Crew) -> None:
    for change in ("MemberSuspected", "MemberDied"):
        recovery.notice_events(*crew.noticed(change))


@contextmanager
def _looking(scene: Scene, crew: Crew) -> Iterator[None]:
    """Keep the scene's peers up to date while the block runs."""
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            scene.peers = crew.look()
            scene.table = crew.table() or scene.table
            if (recovery := scene.recovery) is not None:
                if scene.report is not None:
                    recovery.notice_task(scene.report)
                _ask_survivors(recovery, crew)
            over.wait(LOOK_S)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(timeout=5.0)


class _Watch:
    """Follows a task in a thread."""

    def __init__(self, session: Session, task_id: str) -> None:
        self.report: ShownTask | None = None
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, args=(session, task_id), daemon=True)
        self._thread.start()

    def _run(self, session: Session, task_id: str) -> None:
        try:
            for report in session.watch(task_id):
                self.report = report
        except Exception as error:
            self._error = error

    def goes_on(self) -> bool:
        return self._thread.is_alive()

    def end(self) -> ShownTask:
        """The last report. Raises what ended the watching early."""
        if self._error is not None:
            raise self._error
        assert self.report is not None
        assert self.report.state in STOPPED
        return self.report


def clear_up(session: Session, begun: Begun, reason: str) -> None:
    """Cancel what is unfinished, so that the next demo does not go on with this one's work."""
    with suppress(PeerError):
        begun.cancel(Peer(session.peer().path, answer_timeout_s=ANSWER_WITHIN_S), reason)


def _tell_recovery(scene: Scene, console: Console) -> bool:
    """Say what came of the kill; return whether all of it was seen."""
    recovery = scene.recovery
    if recovery is None:
        console.print(
            "nobody was killed: the video was done too soon; give a longer one", style="bad"
        )
        return False
    for milestone in recovery.milestones:
        console.print(milestone_line(milestone), soft_wrap=True)
    if recovery.missing:
        console.print(f"not seen: {', '.join(recovery.missing)}", style="bad")
    return not recovery.missing


def tell_kept(data_dir: Path, console: Console) -> None:
    """Say how much the demo has left behind, and where."""
    size_bytes = 0
    for directory, _, names in os.walk(data_dir):
        for name in names:
            with suppress(OSError):  # removed meanwhile
                size_bytes += Path(directory, name).lstat().st_size
    console.print(
        f"kept in {data_dir} ({size_text(size_bytes)}); remove it when you like", soft_wrap=True
    )


def _tell(task: ShownTask, took_s: float, console: Console) -> None:
    """Say how it ended and where everything is."""
    if task.state is not TaskState.DONE:
        console.print(
            Text.assemble((task.state.value, task.state.value), f" {task.title}{needs_text(task)}")
        )
        if task.error:
            console.print(error_block(task.error), soft_wrap=True)
        return
    files = len(task.outputs) + sum(some.files for some in task.segments)
    size = sum(made.size for made in task.made)
    console.print(
        Text.assemble(
            ("done", "done"),
            f" in {clock_text(took_s)}: {files} files, {size_text(size)}",
        )
    )
    for warning in task.warnings:
        console.print(Text(f"warning: {warning}", style="warn"), soft_wrap=True)
    for line in output_lines(task.outputs, task.segments, console.width):
        console.print(line, soft_wrap=True)
