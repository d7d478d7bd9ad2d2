"""How the fake Swarm replaces a service's containers: an update, and a rollback.

As measured on real Swarms, and as swarmkit's updater has it: `parallelism` at a time, the old one
first; then it watches for `monitor`, and says that it is complete. Each write of the service gives
an update that is under way up where it stands, and begins it anew with what is left, at once: so
more containers than `parallelism` then finish at the same time. Where nothing is to be replaced
(other replicas, other labels), nothing is begun and no status is given.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from tests.servers.fake_swarm_records import NANO, Json, Service, Task

MONITOR_S = 5.0
"""Swarm's own, where a service does not say."""
ENDS = {
    "updating": ("completed", "update completed"),
    "rollback_started": ("rollback_completed", "rollback completed"),
}


class Hands(Protocol):
    """**Protocol**: the engine, as far as it does what an update wants."""

    def slots(self, service: Service) -> dict[int, list[Task]]:
        """What counts as a replica."""
        ...

    def replace(self, task: Task, then: Callable[[], None]) -> None:
        """Put a successor in a task's place, and go on when that runs."""
        ...

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Do something later."""
        ...

    def written(self, service: Service) -> None:
        """It is another version of the service now."""
        ...


@dataclass(kw_only=True)
class _Update:
    """One that is under way.

    Args:
        left: Tasks to be replaced, in their order.
        replacing: How many are being replaced.
    """

    left: deque[Task]
    replacing: int


class Updates:
    """The updates of all services; at most one of each is under way."""

    def __init__(self, hands: Hands) -> None:
        self._hands = hands
        self._current: dict[str, _Update] = {}

    def begin(self, service: Service) -> None:
        """Replace what differs, after the service was written."""
        self._current.pop(service.id, None)
        tasks = [task for slot in self._hands.slots(service).values() for task in slot]
        left = [
            task
            for task in sorted(tasks, key=lambda task: task.slot)
            if task.wanted and _essence(task.template) != _essence(service.template)
        ]
        if not left:
            self._complete(service)
            return
        if service.update is None:
            service.update = {"State": "updating", "Message": "update in progress"}
            self._hands.written(service)
        count = int(_config(service).get("Parallelism", 1)) or len(left)
        update = _Update(left=deque(left), replacing=count)
        self._current[service.id] = update
        for _ in range(count):
            self._next(service, update)

    def forget(self, service: Service) -> None:
        """It was removed."""
        self._current.pop(service.id, None)

    def _next(self, service: Service, update: _Update) -> None:
        if self._current.get(service.id) is not update:
            return
        while update.left:
            task = update.left.popleft()
            if task.wanted:  # else it has failed meanwhile, and its successor is as it should be
                self._hands.replace(task, partial(self._next, service, update))
                return
        update.replacing -= 1
        if not update.replacing:
            monitor_s = float(_config(service).get("Monitor", MONITOR_S * NANO)) / NANO
            self._hands.after(monitor_s, partial(self._end, service, update))

    def _end(self, service: Service, update: _Update) -> None:
        if self._current.get(service.id) is update:
            del self._current[service.id]
            self._complete(service)

    def _complete(self, service: Service) -> None:
        if service.update is not None and service.update["State"] in ENDS:
            state, message = ENDS[service.update["State"]]
            service.update = {"State": state, "Message": message}
            self._hands.written(service)


def _config(service: Service) -> Json:
    back = service.update is not None and service.update["State"] == "rollback_started"
    return service.spec.get("RollbackConfig" if back else "UpdateConfig") or {}


def _essence(template: Json) -> Json:
    """What a task must be replaced for; a constraint that its node meets is no reason."""
    return {key: value for key, value in template.items() if key != "Placement"}
