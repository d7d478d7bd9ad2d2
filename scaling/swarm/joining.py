"""How a new machine joins: the Swarm's worker token, and the managers that are reachable.

Asked for each time a machine is made, so that a token which a person has rotated is the new one.
"""

from __future__ import annotations

from msgspec import Struct, field

from scaling.ports import OrchestratorUnavailable
from scaling.providers.join import Join
from scaling.swarm.client import Managers


class _Tokens(Struct, frozen=True, rename="pascal"):
    worker: str


class _Swarm(Struct, frozen=True, rename="pascal"):
    join_tokens: _Tokens


class _ManagerStatus(Struct, frozen=True, rename="pascal"):
    addr: str = ""
    reachability: str = ""
    leader: bool = False


class _Node(Struct, frozen=True, rename="pascal"):
    id: str = field(name="ID")
    manager_status: _ManagerStatus | None = None


async def ask_join(managers: Managers) -> Join:
    """Ask the Swarm; the leader's address first, for it is the surest to answer.

    Raises `OrchestratorUnavailable`.
    """
    swarm = await managers.need("/swarm", _Swarm)
    nodes = await managers.need("/nodes", tuple[_Node, ...])
    found = [
        node.manager_status
        for node in nodes
        if node.manager_status is not None and node.manager_status.reachability == "reachable"
    ]
    addresses = [
        status.addr for status in sorted(found, key=lambda one: (not one.leader, one.addr))
    ]
    if not addresses:
        raise OrchestratorUnavailable(
            "the Swarm names no manager that a new machine could reach; set "
            "scaling.provider.join_addresses"
        )
    return Join(token=swarm.join_tokens.worker, addresses=tuple(addresses))
