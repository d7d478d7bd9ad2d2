"""Facts about Swarm that the scaling driver rests on, as this engine has them."""

from __future__ import annotations

import copy
import time

import pytest

from deploy.lab.engine import EngineError
from tests.swarm.rig import RESTART_AFTER_1_S, SECOND, Spec, Swarm, stack_like, wait_for


def scaled(spec: Spec, replicas: int) -> Spec:
    """The same spec with another number of replicas."""
    changed = copy.deepcopy(spec)
    changed["Mode"]["Replicated"]["Replicas"] = replicas
    return changed


def test_a_scale_up_restarts_nobody(swarm: Swarm) -> None:
    """A raw read and write of the number alone adds tasks and keeps every one that runs."""
    service = swarm.deploy_and_wait(stack_like(3))
    before = {task.id for task in swarm.running(service)}
    stored = swarm.service(service)

    swarm.update(service, stored["Version"]["Index"], scaled(stored["Spec"], 6))
    after = swarm.wait_running(service, 6, 30)

    assert before < {task.id for task in after}


def test_a_scale_up_with_defaults_filled_in_restarts_everybody(swarm: Swarm) -> None:
    """The trap: the same with `insertDefaults` is another template; no first task stays.

    Without this the test above would prove nothing: its service must be one that can be harmed.
    """
    service = swarm.deploy_and_wait(stack_like(3))
    before = {task.id for task in swarm.running(service)}
    filled = swarm.manager.get(f"/services/{service}", insertDefaults=True)

    swarm.update(service, filled["Version"]["Index"], scaled(filled["Spec"], 6))

    wait_for(
        lambda: not before & {task.id for task in swarm.running(service)},
        60,
        "every task of before is gone",
    )


def test_only_one_of_two_writers_on_a_version_wins(swarm: Swarm) -> None:
    """An update on a version that is not the service's any more is refused, in Swarm's words."""
    service = swarm.deploy_and_wait(stack_like(1))
    stored = swarm.service(service)
    version = stored["Version"]["Index"]

    swarm.update(service, version, scaled(stored["Spec"], 2))
    with pytest.raises(EngineError, match="update out of sequence") as refusal:
        swarm.update(service, version, scaled(stored["Spec"], 3))

    assert refusal.value.status == 500
    swarm.wait_running(service, 2, 30)


def test_a_container_that_goes_finishes_its_work(swarm: Swarm) -> None:
    """A scale-down sends TERM, and the container has its whole grace to end by itself."""
    spec = stack_like(2, environment={"DRAIN_S": "4"}, RestartPolicy=RESTART_AFTER_1_S)
    spec["TaskTemplate"]["ContainerSpec"]["StopGracePeriod"] = 60 * SECOND
    service = swarm.deploy_and_wait(spec)
    before = swarm.running(service)
    stored = swarm.service(service)

    swarm.update(service, stored["Version"]["Index"], scaled(stored["Spec"], 1))

    # Swarm forgets the task of a slot that is not wanted any more; the node's engine knows.
    wait_for(lambda: len(swarm.tasks(service)) == 1, 30, "one is gone")
    (kept,) = swarm.running(service)
    (gone,) = [task for task in before if task.id != kept.id]
    ended = swarm.lab.engine(gone.node).get(
        "/events",
        since=0,
        until=int(time.time()) + 1,
        filters={"container": [gone.container], "event": ["die"]},
    )
    assert ended["Actor"]["Attributes"]["exitCode"] == "143", "137 would be a kill"
