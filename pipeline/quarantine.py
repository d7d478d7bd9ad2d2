"""A peer's conduct: whether it may be trusted with more work, as a pure value.

A broken peer (no room on its disk, an ffmpeg that crashes on its processor) fails a task in a
second and takes the next one: the faster it fails, the more it gets. It would burn through the
attempts of a whole queue while the peers that work are busy working.

What it sees itself is only that tasks fail. Three different ones in a row put it on
*probation*: a pause that doubles, then one trial at a time. That alone says little, as the tasks
may be to blame: somebody submitted a folder of broken videos. What tells the two apart is what the
*others* make of the same tasks, and the ledger knows that: when two of them were finished
elsewhere, the peer is *quarantined*, and tries one task every ten minutes, then more rarely. When
none was, and two failed elsewhere as well, the tasks are to blame, and the peer is trusted again. A
task that it finishes clears it of everything, as does a person.

The rejected alternative, the leader judging all peers by their failure rates, would need a leader,
and the peer is the one that has to stop. It does not need to be told.

What counts is what a peer may be to blame for (`counts`). A source that is at fault, a lost claim,
a cancelled task, and dependencies that are away (they have their breakers) say nothing of it.

A restart changes nothing of it (`Memory`): what restarts a broken peer most often is its
supervisor, and each new life that trusted itself would burn three more tasks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from pipeline.errors import Stage, StepError
from pipeline.ports import Evidence

FAILED_MAX = 20
"""How many failed tasks are remembered, the newest."""

LOCAL_CODES = frozenset(
    {"disk_full", "no_such_file", "permission_denied", "unexpected", "workspace"}
)
"""What goes wrong on this machine in a pull or a push, and not in the store or on the way."""

MISSING = "no_such_object"
"""The source is not in the store, as this peer sees it."""


def counts(error: StepError) -> bool:
    """Whether the peer may be to blame for a failure.

    The transcoder is this machine's own: all its failures count, as long as a retry may help. What
    no retry can help is the task's own fault, with one exception: sources that are missing. To a
    peer whose store is not mounted, or is another one, all of them are; their tasks escalate at
    once, so nobody else could tell, and it would have escalated a whole queue in a minute. Where
    sources really are missing, this costs the peers the pauses of probation between them: some
    seconds at three in a row, at most `probation_max_s` for each further one.
    """
    if error.permanent:
        return error.stage is Stage.PULL and error.code == MISSING
    return error.stage is Stage.TRANSCODE or error.code in LOCAL_CODES


@dataclass(frozen=True, slots=True, kw_only=True)
class ConductRules:
    """When a peer doubts itself, and how far.

    Args:
        suspicious: How many different tasks in a row must fail.
        witnesses_min: How many of them others must have finished to convict it, or failed to
            acquit it: one may have been luck, bad or good.
        probation_s: The first pause on probation; it doubles with each failed trial.
        probation_max_s: The longest. Short, as nothing is proven yet: a sound peer that is alone
            with a folder of broken videos is only slowed down by it, and has all of them tried.
        quarantine_s: The first pause in quarantine.
        quarantine_max_s: The longest.
    """

    suspicious: int = 3
    witnesses_min: int = 2
    probation_s: float = 10.0
    probation_max_s: float = 30.0
    quarantine_s: float = 600.0
    quarantine_max_s: float = 3600.0


class Standing(StrEnum):
    """How far a peer trusts itself."""

    TRUSTED = "trusted"
    PROBATION = "on probation"
    QUARANTINED = "quarantined"


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What a life of a peer that does not trust itself leaves to the next one.

    Args:
        failed: The tasks that failed, each with its cause; at least one.
        pause_s: How long the newest pause was, for the next one to be longer.
        left_s: What is left of it.
    """

    standing: Standing
    failed: Mapping[UUID, str]
    pause_s: float
    left_s: float


class Conduct:
    """Counts the outcomes of a peer's own attempts. Times are of any monotonic clock, in seconds.

    The methods return whether the standing has changed; to tell people is the caller's part.
    """

    def __init__(self, rules: ConductRules) -> None:
        self._rules = rules
        self.standing = Standing.TRUSTED
        self._failed: dict[UUID, str] = {}  # different tasks in a row, each with its cause
        self._pause_s = 0.0
        self._paused_until = -math.inf
        self._trying = False
        self._ask_at = math.inf

    @property
    def failed(self) -> Sequence[UUID]:
        """The tasks that failed here since the last one was finished."""
        return tuple(self._failed)

    def memory(self, now: float) -> Memory | None:
        """What the next life must know; None while all is well."""
        if self.standing is Standing.TRUSTED:
            return None
        return Memory(
            standing=self.standing,
            failed=dict(self._failed),
            pause_s=self._pause_s,
            left_s=max(0.0, self._paused_until - now),
        )

    def recall(self, now: float, memory: Memory) -> None:
        """Go on where a former life has ended."""
        self._failed = dict(memory.failed)
        self._pause(now, memory.standing, memory.pause_s)
        self._paused_until = now + min(memory.left_s, memory.pause_s)

    def evidence_wanted(self, now: float) -> bool:
        """Whether others should be asked about `failed`: when a pause begins, as they may have seen
        these tasks before, and when it is over, as they may have seen them since."""
        return now >= self._ask_at

    def why(self) -> str | None:
        """What people are told; None while all is well."""
        if self.standing is Standing.TRUSTED:
            return None
        cause = list(self._failed.values())[-1]
        if self.standing is Standing.PROBATION:
            return (
                f"on probation: {len(self._failed)} tasks in a row failed here, the last one with: "
                f"{cause}; one at a time is tried until one succeeds"
            )
        return (
            f"quarantined: it fails tasks which others finish, the last one with: {cause}; "
            "repair it, then say `peerctl resume` with its name"
        )

    def may_take(self, now: float) -> bool:
        """Whether another task may be taken now."""
        if self.standing is Standing.TRUSTED:
            return True
        return not self._trying and now >= self._paused_until

    def begin(self) -> bool:
        """Note that a task is being taken; tell whether it is a trial, which must be ended."""
        is_trial = self.standing is not Standing.TRUSTED
        self._trying = self._trying or is_trial
        return is_trial

    def end_trial(self) -> None:
        """Let the next trial begin when it is time, however this one has ended."""
        self._trying = False

    def succeeded(self) -> bool:
        """Count a task that was finished here."""
        return self.release()

    def release(self) -> bool:
        """Forget everything: a person has seen to it."""
        was_trusted = self.standing is Standing.TRUSTED
        self.standing = Standing.TRUSTED
        self._failed.clear()
        self._paused_until = -math.inf
        self._ask_at = math.inf
        return not was_trusted

    def note_failure(self, now: float, task_id: UUID, cause: str, *, trial: bool) -> bool:
        """Count a task that failed here, for a reason that `counts`."""
        self._failed.pop(task_id, None)
        self._failed[task_id] = cause
        while len(self._failed) > FAILED_MAX:
            del self._failed[next(iter(self._failed))]
        if self.standing is Standing.TRUSTED:
            if len(self._failed) < self._rules.suspicious:
                return False
            self._pause(now, Standing.PROBATION, self._rules.probation_s)
            return True
        if trial:
            self._pause(now, self.standing, min(self._longest_s(), self._pause_s * 2))
        return False

    def note_evidence(self, now: float, evidence: Evidence) -> bool:
        """Hear what others made of the tasks in `failed`."""
        self._ask_at = self._paused_until if now < self._paused_until else math.inf
        if self.standing is not Standing.PROBATION:
            return False
        finished = [task_id for task_id in self._failed if task_id in evidence.finished]
        if len(finished) >= self._rules.witnesses_min:
            self._pause(now, Standing.QUARANTINED, self._rules.quarantine_s)
            return True
        shared = [task_id for task_id in self._failed if task_id in evidence.failed]
        if finished or len(shared) < self._rules.witnesses_min:
            return False
        for task_id in shared:  # the others still count, if one more follows
            del self._failed[task_id]
        self.standing = Standing.TRUSTED
        self._paused_until = -math.inf
        self._ask_at = math.inf
        return True

    def _longest_s(self) -> float:
        on_probation = self.standing is Standing.PROBATION
        return self._rules.probation_max_s if on_probation else self._rules.quarantine_max_s

    def _pause(self, now: float, standing: Standing, pause_s: float) -> None:
        self.standing = standing
        self._pause_s = pause_s
        self._paused_until = now + pause_s
        self._ask_at = now if standing is Standing.PROBATION else math.inf
