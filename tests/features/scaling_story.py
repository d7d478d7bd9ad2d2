"""What a scenario of scaling remembers, and how it finds in the record what it was promised.

Each decision is in the database with all that it was made of. So whether the ratio of containers to
nodes was above the threshold when a node was started is not for the test to guess from outside: it
is read from the decision that started it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.features.client import Asked, Client, Row
from tests.features.swarm_stage import PER_NODE, Cluster, Running

SERVING = ("ready", "cordoned")


@dataclass(slots=True)
class Story:
    """A scenario, so far.

    Args:
        videos: Made for the tests: `short` and `long` by name.
        asked: All that was submitted, in order.
        told: How many events of each type the steps have dealt with.
        since: The number of the last decision before the current phase.
        found: The decision that the current clause is about.
        up: The current phase is one of growth.
        failed: The container that was made to fail.
    """

    cluster: Cluster
    videos: dict[str, Path]
    asked: list[Asked] = field(default_factory=list)
    told: Counter[str] = field(default_factory=Counter)
    since: int = 0
    found: Row = field(default_factory=dict)
    up: bool = True
    failed: Running | None = None
    clients: dict[str, Client] = field(default_factory=dict)

    @classmethod
    def begin(cls, cluster: Cluster, videos: dict[str, Path]) -> Story:
        """Begin one, also where others have ended: what they have seen is not told again."""
        story = cls(cluster, videos, told=Counter(event["type"] for event in cluster.events()))
        story.begin_phase(up=True)
        return story

    def client(self, video: str = "short") -> Client:
        """Who submits this video."""
        if video not in self.clients:
            self.clients[video] = self.cluster.client(self.videos[video])
        return self.clients[video]

    def submit(self, count: int, video: str) -> list[Asked]:
        """Submit a video so often."""
        new = []
        for _ in range(count):
            asked = self.client(video).submit()
            # As a peer notes it that has announced a part. Else the peers announce it once more,
            # and the broker counts two messages for one part.
            self.cluster.select(
                "UPDATE parts SET announced_at = clock_timestamp()"
                " WHERE task_id = %s RETURNING task_id",
                asked.task_id,
            )
            new.append(asked)
        self.asked += new
        return new

    def close(self) -> None:
        """Hang up."""
        for client in self.clients.values():
            client.close()

    def begin_phase(self, *, up: bool) -> None:
        """From now on only newer decisions count."""
        self.up = up
        self.since = max((row["id"] for row in self.cluster.decisions()), default=0)

    def decided(self, condition: Callable[[Row], bool], what: str) -> Row:
        """Wait for a decision of this phase, and remember it."""

        def look() -> Row:
            found = (row for row in self.cluster.decisions(self.since) if condition(row))
            return next(found, {})

        self.found = self.cluster.wait(look, f"a decision: {what}")
        return self.found

    def next_events(self, kind: str, count: int = 1) -> list[Row]:
        """Wait for so many events that no step has dealt with yet, and return them."""
        before = self.told[kind]
        found = self.cluster.wait_for_events(kind, at_least=before + count)
        self.told[kind] += count
        return found[before : before + count]

    def holder(self, asked: Asked) -> str:
        """The container that encodes it now; empty while none does."""
        found = self.cluster.select(
            "SELECT container FROM claims"
            " WHERE task_id = %s AND ended_at IS NULL AND step = 'processing'",
            asked.task_id,
        )
        return str(found[0]["container"]) if found else ""

    def encoding(self, asked: Asked) -> Running:
        """Wait until somebody encodes it, and return who."""
        container = self.cluster.wait(lambda: self.holder(asked), f"{asked.task_id} is encoded")
        return self.cluster.task(container)


def snapshot_of(decision: Row) -> Row:
    """What it was made of."""
    found: Row = decision["considered"]["snapshot"]
    return found


def codes(decision: Row) -> set[str]:
    """Its reasons."""
    return {reason["code"] for reason in decision["reasons"]}


def ordered(decision: Row, action: str) -> list[Row]:
    """What it ordered of this kind."""
    return [each for each in decision["actions"] if each["action"] == action]


def ratio(decision: Row) -> float:
    """Containers to nodes, when it was made."""
    snapshot = snapshot_of(decision)
    there = [each for each in snapshot["containers"] if each["state"] != "stopping"]
    return len(there) / sum(node["state"] in SERVING for node in snapshot["nodes"])


def is_full(decision: Row) -> bool:
    """Whether the ratio had reached the threshold."""
    return ratio(decision) >= PER_NODE


def activities(snapshot: Row) -> dict[str, tuple[str, int]]:
    """By container: what its peer says of itself, and how many parts it works on."""
    return {
        each["id"]: (each["peer"]["activity"], each["peer"]["running"])
        for each in snapshot.get("containers", ())
        if each["peer"]
    }


def ends(claims: Sequence[Row]) -> Counter[tuple[int, str | None]]:
    """How many claims ended how, by the number of their attempt."""
    return Counter((claim["attempt"], claim["outcome"]) for claim in claims)


def node_labels(cluster: Cluster, label: str) -> dict[str, str]:
    """A label of each node that has it."""
    found = {}
    for node in cluster.stage.nodes:
        with suppress(KeyError):
            found[node] = cluster.node(node)["Spec"]["Labels"][label]
    return found
