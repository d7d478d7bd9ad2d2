"""What the lab's nodes do when they work, are cut off, lose power, or lose a container."""

from __future__ import annotations

import time
from collections import Counter

from deploy.lab import machine
from tests.swarm.rig import RESTART_AFTER_1_S, Swarm, Task, stack_like, wait_for


def test_three_nodes_are_ready(swarm: Swarm) -> None:
    """The Swarm has the nodes that were asked for, with names and addresses of their own."""
    nodes = swarm.nodes()

    seen = {node["Description"]["Hostname"]: node["Status"]["Addr"] for node in nodes}
    plan = swarm.lab.plan
    assert seen == {node.name: node.address for node in plan.members}
    assert {node["Status"]["State"] for node in nodes} == {"ready"}
    roles = Counter(node["Spec"]["Role"] for node in nodes)
    assert roles == {"manager": 1, "worker": 2}


def test_a_service_spreads_over_the_nodes(swarm: Swarm) -> None:
    """Six containers are two on every node, and run the image that was loaded."""
    service = swarm.deploy_and_wait(stack_like(6))

    where = Counter(task.node for task in swarm.running(service))
    assert where == {"node-1": 2, "node-2": 2, "node-3": 2}


def test_containers_talk_across_nodes(swarm: Swarm) -> None:
    """On an overlay network a container finds the service's others by name, and reaches them."""
    name = "peer-talk"
    network = swarm.manager.post(
        "/networks/create", {"Name": "talk", "Driver": "overlay", "Attachable": True}
    )["Id"]
    spec = stack_like(3, name=name, Networks=[{"Target": network}])
    service = swarm.deploy_and_wait(spec)
    task = swarm.running(service)[0]

    def reached() -> bool:
        return all(
            _execute(swarm, task, "ping", "-c", "1", "-W", "1", address) == 0
            for address in _addresses(swarm, service)
        )

    assert len(_addresses(swarm, service)) == 3
    assert wait_for(reached, 15, "every container is reached")
    assert _execute(swarm, task, "nslookup", f"tasks.{name}.") == 0


def test_a_cut_off_node_is_down_and_replaced(swarm: Swarm) -> None:
    """What ran on a node whose cable is pulled runs elsewhere; healed, the node is back."""
    service = swarm.deploy_and_wait(stack_like(3))
    lost = swarm.lab.plan.node("node-3")
    (before,) = [task for task in swarm.running(service) if task.node == lost.name]

    swarm.lab.cut(lost.name)
    swarm.wait_node(lost.name, "down", 15)
    replaced = swarm.wait_running(service, 3, 15)

    assert lost.name not in {task.node for task in replaced}
    still = swarm.lab.engine(lost.name).get(f"/containers/{before.container}/json")
    assert still["State"]["Running"], "a partition ends no container"
    swarm.lab.heal(lost.name)
    swarm.wait_node(lost.name, "ready", 15)
    wait_for(
        lambda: not swarm.lab.engine(lost.name).get("/containers/json"), 30, "the old one ends"
    )


def test_a_killed_container_is_respawned_within_three_seconds(swarm: Swarm) -> None:
    """After kill -9 of a container's main process another one runs in its place within 3 s."""
    spec = stack_like(3, RestartPolicy=RESTART_AFTER_1_S)
    service = swarm.deploy_and_wait(spec)

    def crash() -> float:
        victim = swarm.running(service)[-1]
        killed_at = time.monotonic()
        swarm.kill_process(victim)
        wait_for(lambda: _successor(swarm, service, victim), 15, "a successor runs")
        return time.monotonic() - killed_at

    # The promise is the product's; a machine that is busy with something else may miss it once.
    assert min(crash() for _ in range(3)) <= 3.0


def test_a_lost_node_is_replaced_within_eight_seconds(swarm: Swarm) -> None:
    """After a node lost its power what ran there runs elsewhere within 8 s."""
    service = swarm.deploy_and_wait(stack_like(3, RestartPolicy=RESTART_AFTER_1_S))

    def lose() -> float:
        # Containers move to the others and stay there, so the node gets a new one first.
        victim = wait_for(
            lambda: next((t for t in swarm.running(service) if t.node != "node-1"), None),
            15, "one runs on a worker",
        )  # fmt: skip
        lost_at = time.monotonic()
        swarm.lab.kill(victim.node)
        wait_for(lambda: _replaced(swarm, service, victim.node), 30, "three run elsewhere")
        took = time.monotonic() - lost_at
        swarm.lab.start(victim.node)
        swarm.wait_node(victim.node, "ready", 30)
        return took

    assert min(lose() for _ in range(2)) <= 8.0


def test_containers_outlive_their_engine(swarm: Swarm) -> None:
    """A killed dockerd's containers go on until it is started again, and then are replaced."""
    service = swarm.deploy_and_wait(stack_like(3, RestartPolicy=RESTART_AFTER_1_S))
    orphan = next(task for task in swarm.running(service) if task.node == "node-2")
    node = swarm.lab.plan.node(orphan.node)
    process = str(swarm.process(orphan))

    machine.execute(node, "sh", "-c", "kill -9 $(cat /run/docker.pid)")
    swarm.wait_node(node.name, "down", 15)
    machine.execute(node, "kill", "-0", process)  # fails if it is gone
    swarm.lab.start(node.name)

    swarm.wait_node(node.name, "ready", 15)
    assert machine.execute(node, "sh", "-c", f"kill -0 {process} 2>&1 || echo gone").endswith(
        "gone\n"
    )
    assert len(swarm.wait_running(service, 3, 30)) == 3


def _execute(swarm: Swarm, task: Task, *argv: str) -> int:
    """Run a program in a task's container and return its exit code."""
    engine = swarm.lab.engine(task.node)
    order = {"Cmd": list(argv), "AttachStdout": False, "AttachStderr": False}
    order_id = engine.post(f"/containers/{task.container}/exec", order)["Id"]
    engine.post(f"/exec/{order_id}/start", {"Detach": True})
    ended = wait_for(
        lambda: None if (state := engine.get(f"/exec/{order_id}/json"))["Running"] else state,
        15,
        f"{argv[0]} ends",
    )
    code: int = ended["ExitCode"]
    return code


def _addresses(swarm: Swarm, service: str) -> list[str]:
    return [
        attachment["Addresses"][0].split("/")[0]
        for task in swarm.running(service)
        for attachment in task.raw["NetworksAttachments"]
    ]


def _successor(swarm: Swarm, service: str, victim: Task) -> Task | None:
    return next(
        (task for task in swarm.running(service)
         if task.slot == victim.slot and task.id != victim.id),
        None,
    )  # fmt: skip


def _replaced(swarm: Swarm, service: str, lost: str) -> bool:
    return [task.node == lost for task in swarm.running(service)].count(False) >= 3
