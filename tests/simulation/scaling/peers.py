"""The queue and the peers that take from it: what the pipeline and gossip look like from far away.

A peer works on one part at a time. What others know of it is what it was a second ago.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from scaling.snapshot import Activity, PeerSight
from tests.simulation.scaling.events import Timeline
from tests.simulation.scaling.traces import Part

GOSSIP_S = 1.0
LATELY = 200
"""How many parts the mean is of. A few would do it no good: when a burst ends, the last that end
are those that took longest."""

ORDER_S = 0.3
"""How long a word to a peer takes."""


@dataclass(eq=False, slots=True, kw_only=True)
class Peer:
    """One peer, in its container.

    Attributes:
        past: When it was what: time, activity, and when its part ends (None: it has none).
    """

    uid: str
    part: Part | None = None
    ends_s: float = 0.0
    parked: bool = False
    told_to_end: bool = False
    alive: bool = True
    past: deque[tuple[float, Activity, float | None]] = field(
        default_factory=lambda: deque(maxlen=8)
    )

    def activity(self) -> Activity:
        """Return what it says of itself."""
        if self.told_to_end:
            return Activity.DRAINING
        if self.parked:
            return Activity.PARKED
        return Activity.IDLE if self.part is None else Activity.BUSY

    def sight(self, now_s: float) -> PeerSight | None:
        """Return what others know of it by now."""
        heard = None
        for entry in self.past:
            if entry[0] > now_s - GOSSIP_S:
                break
            heard = entry
        if heard is None:
            return None
        _, activity, ends_s = heard
        return PeerSight(
            uid=self.uid,
            activity=activity,
            slots=1,
            running=0 if ends_s is None else 1,
            remaining_s=0.0 if ends_s is None else max(0.0, ends_s - now_s),
            cpu=0.0 if ends_s is None else 0.97,
            memory=0.4,
            age_s=GOSSIP_S,
        )


class Work:
    """The queue, and who works on what.

    Attributes:
        waits_s: How long each part waited until it was first taken up.
        redone: How many parts were begun in vain, by the scaler's doing.
        crashed: How many were begun in vain because a container crashed.
    """

    def __init__(self, timeline: Timeline, on_free: Callable[[Peer], None]) -> None:
        self._timeline = timeline
        self._on_free = on_free
        self._queue: deque[tuple[Part, bool]] = deque()
        self._idle: dict[Peer, None] = {}
        self.running = 0
        self.waits_s: list[float] = []
        self.arrivals_s: list[float] = []
        self._lately_s: deque[float] = deque(maxlen=LATELY)
        self.done = 0
        self.done_s = 0.0
        self.redone = 0
        self.crashed = 0

    @property
    def ready(self) -> int:
        """How many parts wait."""
        return len(self._queue)

    @property
    def service_s(self) -> float | None:
        """How long one part takes; None before the first has ended."""
        return sum(self._lately_s) / len(self._lately_s) if self._lately_s else None

    def arrive(self, part: Part) -> None:
        """Let one come."""
        self.arrivals_s.append(self._timeline.now_s)
        self._queue.append((part, False))
        self._dispatch()

    def greet(self, peer: Peer) -> None:
        """Let a peer ask for work."""
        self._changed(peer)

    def park(self, peer: Peer, parked: bool) -> None:
        """Tell it to take no new work, or to take some again."""
        if peer.alive:
            peer.parked = parked
            self._changed(peer)

    def tell_to_end(self, peer: Peer) -> None:
        """Tell it to finish what it has, and to be gone."""
        if peer.alive:
            peer.told_to_end = True
            self._changed(peer)

    def lose(self, peer: Peer, *, crashed: bool) -> None:
        """Let it die at once; what it worked on is put back, first in line."""
        peer.alive = False
        self._idle.pop(peer, None)
        if peer.part is not None:
            self._queue.appendleft((peer.part, True))
            self.running -= 1
            peer.part = None
            if crashed:
                self.crashed += 1
            else:
                self.redone += 1
            self._dispatch()

    def _changed(self, peer: Peer) -> None:
        takes = peer.alive and peer.part is None and not peer.parked and not peer.told_to_end
        if takes:
            self._idle.setdefault(peer)
        else:
            self._idle.pop(peer, None)
        self._note(peer)
        if takes:
            self._dispatch()
        elif peer.part is None:
            self._on_free(peer)

    def _note(self, peer: Peer) -> None:
        ends_s = None if peer.part is None else peer.ends_s
        peer.past.append((self._timeline.now_s, peer.activity(), ends_s))

    def _dispatch(self) -> None:
        while self._queue and self._idle:
            peer = next(iter(self._idle))
            del self._idle[peer]
            part, again = self._queue.popleft()
            if not again:
                self.waits_s.append(self._timeline.now_s - part.at_s)
            peer.part = part
            peer.ends_s = self._timeline.now_s + part.work_s
            self.running += 1
            self._note(peer)
            self._timeline.after(part.work_s, partial(self._end, peer, part))

    def _end(self, peer: Peer, part: Part) -> None:
        if peer.part is not part:
            return
        peer.part = None
        self.running -= 1
        self.done += 1
        self.done_s += part.work_s
        self._lately_s.append(part.work_s)
        self._changed(peer)
