"""What follows when a peer is killed, as anybody can see it from outside: pure.

A demo that shows a recovery must not take anything on trust. So each stage is told by what proves
it: that a peer was found silent, by the survivors' own memory; that its work was taken from it, by
the ledger's record of the attempt; that somebody else finished it, by the attempt that follows.
What has not been seen is missing at the end, and named.

The queue is usually first: it gives the message of a peer whose line broke to another one, which
asks the holder, hears nothing, and takes the work over within two seconds. The cluster takes six to
be sure of a death; where the queue has noticed nothing, the work is put back then.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from peer.protocol import LocalEvent, ShownTask
from peer.screen.words import percent_text
from pipeline.tasks import TaskState

FOUND = frozenset({"peer_died", "peer_unheard"})
"""The codes of a crash that the others found, not of a lease that ran out."""

STAGES = ("killed", "put back", "taken over", "suspect", "dead", "finished")
"""In no order but that of their times."""


@dataclass(frozen=True, slots=True)
class Milestone:
    """A stage that was seen.

    Args:
        at_s: Seconds after the kill.
    """

    stage: str
    at_s: float
    text: str


@dataclass(slots=True)
class Recovery:
    """One kill, and what was seen of it since.

    Args:
        name, uid, pid: The peer that was killed.
        killed_at: On this machine's clock, as are the survivors' memory and the embedded ledger.
        attempt: What it was working on.
        fraction: How far it was, 0 to 1.
    """

    name: str
    uid: str
    pid: int
    killed_at: datetime
    attempt: int
    fraction: float
    seen: dict[str, Milestone] = field(default_factory=dict)

    def __post_init__(self) -> None:
        far = percent_text(self.fraction)
        text = f"{self.name} is killed (SIGKILL, process {self.pid}) at {far} of the encode"
        self._note("killed", self.killed_at, text)

    @property
    def milestones(self) -> list[Milestone]:
        """What was seen, in the order in which it happened."""
        seen = [self.seen[stage] for stage in STAGES if stage in self.seen]
        return sorted(seen, key=lambda milestone: milestone.at_s)

    @property
    def missing(self) -> list[str]:
        """The stages that were not seen."""
        return [stage for stage in STAGES if stage not in self.seen]

    def notice_events(self, by: str, events: Iterable[LocalEvent]) -> None:
        """Look through what a survivor remembers; again and again, the whole of it."""
        for event in events:
            row = event.data.get("row", {})
            if row.get("uid") != self.uid or event.at < self.killed_at:
                continue
            silent_s = event.data.get("silent_s", 0.0)
            if event.type == "MemberSuspected":
                text = f"suspect: {by} and others have heard nothing for {silent_s:.1f} s"
                self._note("suspect", event.at, text)
            elif event.type == "MemberDied":
                self._note("dead", event.at, f"dead: silent for {silent_s:.1f} s, {by} says")

    def notice_task(self, task: ShownTask) -> None:
        """Look at the task as the ledger has it."""
        for report in task.attempts:
            if report.attempt == self.attempt and report.ended_at and report.error:
                if report.error.code in FOUND:
                    text = f"put back: {report.error.message}"
                    self._note("put back", report.ended_at, text)
            elif report.attempt > self.attempt and report.peer_uid != self.uid:
                text = f"{report.peer_name} takes it over, attempt {report.attempt}"
                self._note("taken over", report.claimed_at, text)
                if task.state is TaskState.DONE and report.ended_at and report.outcome == "done":
                    text = f"{report.peer_name} has finished it"
                    self._note("finished", report.ended_at, text)

    def _note(self, stage: str, at: datetime, text: str) -> None:
        known = self.seen.get(stage)
        at_s = (at - self.killed_at).total_seconds()
        if known is None or at_s < known.at_s:
            self.seen[stage] = Milestone(stage, at_s, text)
