"""The feature "Autoscaling Workflow", step by step, on a fake Swarm and on a real one."""

from __future__ import annotations

import json
import re
import time

import pytest
from pytest_bdd import given, parsers, scenarios, then, when

from tests.features.client import Row
from tests.features.conftest import Deploy
from tests.features.scaling_story import (
    Story,
    activities,
    codes,
    ends,
    is_full,
    node_labels,
    ordered,
    ratio,
    snapshot_of,
)
from tests.features.swarm_stage import (
    LABEL,
    PER_NODE,
    POOL,
    QUEUE_HIGH,
    QUEUE_LOW,
    Limits,
    Settings,
)

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("stages")]

scenarios("autoscaling_workflow.feature")

BURST = 8
LOOKS_S = 1.5
"""Several looks long."""

HEAVY = 3
"""So many keep a container busy, and one waits, for longer than the leader needs to see it."""

CPU_HIGH, CPU_LOW = 0.6, 0.4
CPU = Settings(
    containers=1,
    paced=False,
    # So little that it is had whatever else the machine does, and many times what a peer takes that
    # waits for work, and looks at everything every half second.
    limits=Limits(cpus=0.3),
    scaling={
        "containers_min": 1,
        "containers_max": 2,
        "cpu_high": CPU_HIGH,
        "cpu_low": CPU_LOW,
        # The queue itself says nothing: it is never too short here, nor too long.
        "queue_low": 0,
        "queue_high": 1000,
        "average_s": 1,
        "interval_s": 0.5,
    },
)


# Dynamic Scaling Based on Queue Size


@given("the video processing system is running", target_fixture="story")
def system_is_running(deploy: Deploy) -> Story:
    story = deploy(Settings())
    assert {task.node for task in story.cluster.running()} == {story.cluster.stage.nodes[0]}
    return story


@when("the service continuously monitors the queue length")
def queue_is_monitored(story: Story) -> None:
    """One look follows another, and each sees how many parts wait by then."""
    story.begin_phase(up=True)
    story.submit(PER_NODE, "long")
    cluster = story.cluster
    cluster.wait(lambda: cluster.snapshot()["demand"]["running"] == PER_NODE, "both work")
    story.submit(QUEUE_HIGH - 1, "short")
    times = set()

    def looked() -> bool:
        look = cluster.look()
        assert look is not None
        times.add(look["at"])
        ready: int = look["considered"]["snapshot"]["demand"]["ready"]
        return ready == QUEUE_HIGH - 1 and len(times) > 2

    cluster.wait(looked, "the leader sees what waits")


@then("it compares the queue length to a pre-defined range")
def queue_is_compared(story: Story) -> None:
    config = story.decided(lambda row: "queue_in_range" in codes(row), "within the range")[
        "considered"
    ]["config"]
    assert (config["queue_low"], config["queue_high"]) == (QUEUE_LOW, QUEUE_HIGH)


@then("if the queue length is within the range")
def queue_is_within(story: Story) -> None:
    assert QUEUE_LOW <= snapshot_of(story.found)["demand"]["ready"] <= QUEUE_HIGH


@then("the system configuration remains the same")
def nothing_changes(story: Story) -> None:
    cluster = story.cluster
    before = (cluster.wanted(), cluster.in_service(), {task.id for task in cluster.running()})
    until = time.monotonic() + LOOKS_S
    while time.monotonic() < until:
        now = (cluster.wanted(), cluster.in_service(), {task.id for task in cluster.running()})
        assert now == before
    assert not any(row["actions"] for row in cluster.decisions(story.since))


@then("if the queue length is too high")
def queue_is_too_high(story: Story) -> None:
    story.begin_phase(up=True)
    story.submit(BURST, "short")
    found = story.decided(lambda row: "queue_high" in codes(row), "the queue is too high")
    assert snapshot_of(found)["demand"]["ready"] > QUEUE_HIGH


@then("the ratio of containers to nodes is above a pre-defined threshold")
def ratio_is_above(story: Story) -> None:
    def condition(row: dict[str, object]) -> bool:
        does = ("StartNode",) if story.up else ("Park", "SetContainers")
        gate = "queue_high" if story.up else "queue_low"
        return gate in codes(row) and is_full(row) and any(ordered(row, each) for each in does)

    found = story.decided(condition, "at the threshold")
    assert found["considered"]["config"]["containers_per_node"] == PER_NODE


@then("start up a new node")
def node_is_started(story: Story) -> None:
    """One node, and no container beyond what the old one has room for, at the same time."""
    (order,) = ordered(story.found, "StartNode")
    assert order["name"] in story.cluster.stage.nodes[1:]
    assert not ordered(story.found, "SetContainers")
    story.cluster.wait(lambda: order["name"] in story.cluster.in_service(), "it is in service")
    assert node_labels(story.cluster, LABEL)[order["name"]] == POOL


@then("start up a new container on that node")
def container_is_started_there(story: Story) -> None:
    node = ordered(story.found, "StartNode")[0]["name"]
    cluster = story.cluster
    cluster.wait(lambda: node in {task.node for task in cluster.running()}, f"one runs on {node}")


@then("if the ratio of containers to nodes is below the threshold")
def ratio_is_below(story: Story) -> None:
    gate = "queue_high" if story.up else "queue_low"
    found = story.decided(
        lambda row: gate in codes(row) and not is_full(row) and bool(ordered(row, "SetContainers")),
        "below the threshold",
    )
    assert 0 < ratio(found) < PER_NODE


@then("start up a new container")
def container_is_started(story: Story) -> None:
    (order,) = ordered(story.found, "SetContainers")
    assert order["count"] > snapshot_of(story.found)["wanted"]
    cluster = story.cluster
    cluster.wait(lambda: len(cluster.running()) == order["count"], f"{order['count']} run")


@then("if the queue length is too low")
def queue_is_too_low(story: Story) -> None:
    """Nothing waits any more, and each container has a part to finish: all but one a long one."""
    cluster = story.cluster
    everybody = cluster.wanted()

    # Asked of the ledger, and of what can only become true: the leader may miss a moment.
    cluster.wait(lambda: cluster.unfinished() <= 2 * everybody, "the burst is nearly done")
    story.submit(1, "short")
    story.submit(everybody - 1, "long")
    story.begin_phase(up=False)
    found = story.decided(lambda row: "queue_low" in codes(row), "the queue is too low")
    assert snapshot_of(found)["demand"]["ready"] < QUEUE_LOW


@then("stop sending work to a container")
@then("stop sending work to a specific container")
def container_is_parked(story: Story) -> None:
    """Before Swarm is told to run fewer, the one that it will choose takes no work any more."""
    cluster = story.cluster
    parks = [row for row in cluster.decisions(story.since) if ordered(row, "Park")]
    uids = {order["uid"] for row in parks for order in ordered(row, "Park")}
    peers = {row["peer_uid"] for row in cluster.select("SELECT DISTINCT peer_uid FROM claims")}
    assert uids
    assert uids <= peers
    last = max(row["first_at"] for row in parks)
    for uid in uids:
        parked = min(row["first_at"] for row in parks if uid in json.dumps(row["actions"]))
        later = cluster.select(
            "SELECT * FROM claims WHERE peer_uid = %s AND claimed_at > %s + interval '1 s'",
            uid,
            parked,
        )
        assert later == [], "work was sent to a parked container"
    assert last


@then("shut down the container when it finishes its current work")
def container_is_stopped(story: Story) -> None:
    """Swarm is told so only when the peers that it will end say that they are idle."""
    cluster = story.cluster
    found = story.decided(lambda row: bool(ordered(row, "SetContainers")), "fewer containers")
    (order,) = ordered(found, "SetContainers")
    before = snapshot_of(found)
    going = before["wanted"] - order["count"]
    assert going > 0
    finished = [
        container
        for container, (activity, running) in activities(before).items()
        if activity == "parked" and running == 0
    ]
    assert len(finished) >= going
    cluster.wait(lambda: cluster.wanted() <= order["count"], "Swarm is told")
    ended = [container for container in finished if not cluster_runs(story, container)]
    cluster.wait(
        lambda: sum(not cluster_runs(story, container) for container in finished) >= going,
        f"{going} have ended ({ended})",
    )
    story.since = found["id"]


def cluster_runs(story: Story, container: str) -> bool:
    return container in {task.id for task in story.cluster.running()}


@then(parsers.parse("a {kind} event is logged to the database"))
def event_is_logged(story: Story, kind: str) -> None:
    """Once for each, with the node, the number that is wanted, and the reasons."""
    (event,) = story.next_events(kind)
    data = event["data"]
    assert data["worker_node"] in story.cluster.stage.nodes
    assert data["containers" if kind.startswith("Container") else "nodes"] >= 1
    gate = "more" if kind.endswith("Up") else "fewer"
    said = re.compile(rf"\d+ (part waits|parts wait), {gate} than \d+")
    assert any(said.fullmatch(reason) for reason in data["reasons"]), data["reasons"]
    assert event["container"]


@then("copy over any containers running on that node to another node")
def containers_move(story: Story) -> None:
    """What ran on the node that is emptied runs elsewhere; as many as before."""
    cluster = story.cluster
    found = story.decided(lambda row: bool(ordered(row, "EmptyNode")), "a node is emptied")
    (order,) = ordered(found, "EmptyNode")
    snapshot = snapshot_of(found)
    there = {each["id"] for each in snapshot["containers"] if each["node"] == order["name"]}
    assert there, "a container runs there"
    assert all(activities(snapshot)[container] == ("parked", 0) for container in there)

    def moved() -> bool:
        running = cluster.running()
        return len(running) == cluster.wanted() and order["name"] not in {r.node for r in running}

    cluster.wait(moved, f"{order['name']} is empty")


@then("shut down the node")
def node_is_shut_down(story: Story) -> None:
    """It is on standby: nothing starts there, and its provider may take its power."""
    (order,) = ordered(
        story.decided(lambda row: bool(ordered(row, "RetireNode")), "it is retired"), "RetireNode"
    )
    cluster = story.cluster
    cluster.wait(
        lambda: node_labels(cluster, LABEL).get(order["name"]) == f"{POOL}:standby", "on standby"
    )
    assert cluster.in_service() == {cluster.stage.nodes[0]}


@then("the system continues to monitor queue length")
def goes_on(story: Story) -> None:
    cluster = story.cluster
    look = cluster.look()
    assert look is not None
    cluster.wait(lambda: (cluster.look() or look)["at"] > look["at"], "another look")


@then("dynamically adjusts nodes and containers accordingly")
def adjusts_again(story: Story) -> None:
    """A further burst is answered as the first one was."""
    story.begin_phase(up=True)
    story.submit(BURST, "short")
    story.decided(lambda row: bool(ordered(row, "StartNode")), "a node again")
    assert story.next_events("WorkerNodeScaledUp")
    assert story.next_events("ContainerScaledUp")


@then("no part of any video was killed, or done twice")
def nothing_is_redone(story: Story) -> None:
    story.cluster.wait_until_done(story.asked)
    claims = story.cluster.select("SELECT * FROM claims")
    assert ends(claims) == {(1, "done"): len(story.asked)}
    # -1: Swarm was not told, for it had moved the container to another node before it ended.
    assert {task.exit_code for task in story.cluster.tasks()} <= {-1, 0, 143}
    assert story.cluster.events("ContainerFailureDetected", "ContainerErrorRetry") == []


@then("peerctl events tells the story of the burst")
def events_tell(story: Story) -> None:
    """In the order in which it happened, each with its reasons."""
    cluster = story.cluster
    told = cluster.stage.peerctl(cluster.running()[0], "events", "--limit", "1000", "--json")
    events = [json.loads(line) for line in told.splitlines()]
    kinds = [
        "WorkerNodeScaledUp",
        "ContainerScaledUp",
        "ContainerScaledDown",
        "WorkerNodeScaledDown",
    ]
    scaled = [event for event in events if event["type"] in kinds]
    assert list(dict.fromkeys(event["type"] for event in scaled)) == kinds
    for event in scaled:
        assert any(re.search("parts? waits?", reason) for reason in event["data"]["reasons"])


# Basic Flow, by the CPU utilization


@given("the system is actively processing video transcoding tasks", target_fixture="story")
def system_is_processing(deploy: Deploy) -> Story:
    story = deploy(CPU)
    story.begin_phase(up=True)
    return story


@given("the video has been uploaded in the correct format to the storage service")
def videos_are_uploaded(story: Story) -> None:
    cluster = story.cluster
    for asked in story.submit(HEAVY, "heavy"):
        assert cluster.store.stat_object(cluster.bucket, asked.key).size
    cluster.wait(lambda: cluster.snapshot()["demand"]["running"] >= 1, "it is worked on")


@when("monitor the CPU utilization of all worker nodes")
def cpu_is_monitored(story: Story) -> None:
    def measured() -> bool:
        nodes = story.cluster.snapshot()["nodes"]
        return all(node["cpu"] is not None for node in nodes if node["state"] in ("ready",))

    story.cluster.wait(measured, "each node's CPU is known")


@then("if the average CPU utilization is high:")
def cpu_is_high(story: Story) -> None:
    found = story.decided(lambda row: "cpu_high" in codes(row), "the CPU is high")
    assert "queue_high" not in codes(found)
    event = next_crossing(story, "above")
    assert event["data"]["utilization"] >= event["data"]["threshold"] == CPU_HIGH
    assert event["data"]["nodes"] == 1


def next_crossing(story: Story, direction: str) -> Row:
    """Wait for it; an idle cluster has been below its limits before."""
    while True:
        (event,) = story.next_events("ResourceUtilizationThresholdReached")
        assert event["data"]["resource"] == "cpu"
        if event["data"]["direction"] == direction:
            return event


@then("spin up additional worker nodes to handle the increased workload")
def nodes_are_added(story: Story) -> None:
    """Although the busy one has room by number: what it lacks is CPU."""
    cluster = story.cluster
    found = story.decided(lambda row: bool(ordered(row, "StartNode")), "a node more")
    assert not is_full(found)
    (up,) = story.next_events("WorkerNodeScaledUp")
    node = up["data"]["worker_node"]
    assert any("average CPU is above" in reason for reason in up["data"]["reasons"])
    (container,) = story.next_events("ContainerScaledUp")
    assert container["data"]["worker_node"] == node

    def works() -> bool:
        if cluster.unfinished("queued") == 0:
            story.submit(1, "heavy")  # until it is there the others may have done all that waited
        return bool(cluster.select("SELECT * FROM claims WHERE node = %s", node))

    cluster.wait(works, f"{node} works")


@then("if the average CPU utilization is very low:")
def cpu_is_low(story: Story) -> None:
    story.cluster.wait_until_done(story.asked)
    found = story.decided(lambda row: "cpu_low" in codes(row), "the CPU is very low")
    assert "queue_low" not in codes(found)
    event = next_crossing(story, "below")
    assert event["data"]["utilization"] < event["data"]["threshold"] == CPU_LOW


@then("block underutilized nodes from receiving any more work")
def nodes_are_blocked(story: Story) -> None:
    found = story.decided(
        lambda row: bool(ordered(row, "EmptyNode") or ordered(row, "Park")), "it is blocked"
    )
    assert "cpu_low" in codes(found)


@then("and shut them down underutilized after they finish their current tasks")
def nodes_are_shut_down(story: Story) -> None:
    cluster = story.cluster
    (down,) = story.next_events("WorkerNodeScaledDown")
    assert any("average CPU is below" in reason for reason in down["data"]["reasons"])
    assert cluster.in_service() == {cluster.stage.nodes[0]}
    claims = cluster.select("SELECT * FROM claims WHERE node = %s", down["data"]["worker_node"])
    assert {claim["outcome"] for claim in claims} == {"done"}


@then("continue monitoring and adjusting the number of worker nodes as needed")
def goes_on_by_cpu(story: Story) -> None:
    goes_on(story)
    story.begin_phase(up=True)
    story.submit(HEAVY, "heavy")
    story.decided(lambda row: bool(ordered(row, "StartNode")), "a node again")
    story.next_events("WorkerNodeScaledUp")


@then("a ResourceUtilizationThresholdReached event is logged for each crossing")
def crossings_are_logged(story: Story) -> None:
    """Each on its own side of its limit, and as often as the cluster was moved by it."""
    crossed = [
        event["data"] for event in story.cluster.events("ResourceUtilizationThresholdReached")
    ]
    for data in crossed:
        assert data["reasons"]
        assert (data["utilization"] >= data["threshold"]) == (data["direction"] == "above")
    assert [data["direction"] for data in crossed].count("above") >= 2
