"""Nodes from a cloud, by Apache Libcloud: one interface to EC2, OpenStack and others.

The clouds' own libraries were rejected: boto3, openstacksdk and the rest are each larger than this
whole program. libcloud is not made for trio nor for threads, so one thread at a time uses it, with
time-outs on its sockets; a call that lasts too long is left behind in its thread, and the next one
waits for that thread, so that a late order is seen by whoever looks next.

A cloud lets several machines have one name, and takes a second order as gladly as the first. So an
order is preceded by a list, and followed by one; should two leaders have ordered after all, both
see both machines and destroy the same one, the later.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import trio

from scaling.ports import Machine, ProviderFailed
from scaling.providers.cloud_init import user_data
from scaling.providers.complaints import complaint
from scaling.providers.config import ProviderConfig
from scaling.providers.dialects import Order, dialect_of
from scaling.providers.errors import ProviderRefused
from scaling.providers.join import JoinSource
from scaling.snapshot import NodeState

T = TypeVar("T")
_log = logging.getLogger(__name__)

GONE = "terminated"
STATES = {
    "running": NodeState.BOOTING,
    "starting": NodeState.BOOTING,
    "rebooting": NodeState.BOOTING,
    "pending": NodeState.BOOTING,
    "reconfiguring": NodeState.BOOTING,
    "migrating": NodeState.BOOTING,
    "normal": NodeState.BOOTING,
    "updating": NodeState.BOOTING,
    "stopping": NodeState.DOWN,
    "stopped": NodeState.DOWN,
    "suspended": NodeState.DOWN,
    "paused": NodeState.DOWN,
    "error": NodeState.DOWN,
    "unknown": NodeState.UNKNOWN,
}
"""libcloud's words and ours: what runs may join, and only the orchestrator knows if it has."""


class LibcloudProvider:
    """Implements `NodeProvider` with one of libcloud's drivers.

    Args:
        config: Of kind `libcloud`.
        open_driver: Makes the driver, in a thread, before its first use and again after that
            failed. None: libcloud's own, as the configuration says.

    Raises:
        ProviderRefused: libcloud is not installed, or its driver cannot do what is needed.
    """

    def __init__(
        self,
        config: ProviderConfig,
        join: JoinSource,
        *,
        open_driver: Callable[[], Any] | None = None,
    ) -> None:
        require_libcloud()
        self._config, self._cloud, self._join = config, config.libcloud, join
        self._dialect = dialect_of(config.libcloud.provider)
        self._open = self._open_driver if open_driver is None else open_driver
        self._driver: Any = None
        self._one_thread = trio.CapacityLimiter(1)

    async def list(self) -> Sequence[Machine]:
        """All machines that bear the cluster's mark, also two of one name."""
        nodes = await self._call(self._ours, "list machines")
        now = datetime.now(UTC)
        return tuple(
            Machine(name=str(node.name), state=_state(node), age_s=_age_s(node, now))
            for node in nodes
        )

    async def create(self, name: str) -> None:
        """Order one, unless there is one; of several, all but the first are destroyed."""
        join = await self._join()
        template = None
        if (file := self._cloud.user_data_file) is not None:
            template = await trio.to_thread.run_sync(_read, file)
        order = Order(
            name=name,
            cluster=self._config.cluster,
            user_data=user_data(name, join, template),
            config=self._cloud,
        )
        await self._call(functools.partial(self._ensure, order), f"order {name}", join.token)

    async def destroy(self, name: str) -> None:
        """Destroy all of that name."""
        await self._call(functools.partial(self._destroy, name), f"destroy {name}")

    async def _call(self, call: Callable[[], T], doing: str, token: str = "") -> T:
        """Call libcloud in the thread, for so long at most."""

        def in_thread() -> T:
            try:
                if self._driver is None:
                    self._driver = self._open()
                return call()
            except Exception as error:
                # Not `from error`: what is chained gets into logs, and may hold the token.
                raise complaint(
                    error, doing=doing, provider=self._cloud.provider, token=token
                ) from None

        with trio.move_on_after(self._cloud.call_timeout_s):
            return await trio.to_thread.run_sync(
                in_thread, abandon_on_cancel=True, limiter=self._one_thread
            )
        raise ProviderFailed(
            f"cannot {doing} at {self._cloud.provider}: it took longer than "
            f"{self._cloud.call_timeout_s:g} s"
        )

    # What follows runs in the thread.

    def _open_driver(self) -> Any:
        from libcloud.compute.providers import get_driver  # noqa: PLC0415 - an optional package

        arguments, named = self._dialect.opening(self._cloud)
        driver: Any = get_driver(self._cloud.provider)(
            *arguments, **{**named, **self._cloud.driver_arguments}
        )
        if driver.connection.timeout != self._cloud.request_timeout_s:
            driver.connection.timeout = self._cloud.request_timeout_s
            driver.connection.connect()  # makes a new session, and asks nobody
        return driver

    def _ours(self) -> Sequence[Any]:
        nodes = self._driver.list_nodes(**self._dialect.listing(self._config.cluster))
        return [
            node
            for node in nodes
            if str(node.state) != GONE and self._dialect.mark_of(node) == self._config.cluster
        ]

    def _named(self, name: str) -> Sequence[Any]:
        """Those of that name, the first first; everybody who asks gets the same order."""
        never = datetime.max.replace(tzinfo=UTC)
        found = [node for node in self._ours() if node.name == name]
        return sorted(found, key=lambda node: (node.created_at or never, str(node.id)))

    def _ensure(self, order: Order) -> None:
        if not (found := self._named(order.name)):
            arguments = {**self._cloud.node_arguments, **self._dialect.order(self._driver, order)}
            self._driver.create_node(name=order.name, **arguments)
            found = self._named(order.name)
        for surplus in found[1:]:
            _log.warning(
                "two machines have one name, the later one is destroyed",
                extra={"action": "machine_surplus", "machine": order.name, "id": str(surplus.id)},
            )
            self._driver.destroy_node(surplus)

    def _destroy(self, name: str) -> None:
        for node in self._named(name):
            if not self._driver.destroy_node(node):
                raise ProviderFailed(
                    f"cannot destroy {name} at {self._cloud.provider}: it said no, and not why"
                )


def require_libcloud() -> None:
    """Raise `ProviderRefused` where libcloud is not installed."""
    try:
        import libcloud  # noqa: F401, PLC0415 - an optional package, 39 MB
    except ImportError as error:
        raise ProviderRefused(
            "scaling.provider.kind is libcloud, and Apache Libcloud is not installed: "
            "pip install 'grapevine[cloud]'"
        ) from error


def _state(node: Any) -> NodeState:
    return STATES.get(str(node.state), NodeState.UNKNOWN)


def _age_s(node: Any, now: datetime) -> float | None:
    """By the cloud's clock and ours, so it is for people to read."""
    created = node.created_at
    if created is None or created.tzinfo is None:
        return None
    return max(0.0, float((now - created).total_seconds()))


def _read(file: Any) -> str:
    try:
        return str(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ProviderRefused(
            f"scaling.provider.libcloud.user_data_file: cannot read {file}: {error}"
        ) from error
