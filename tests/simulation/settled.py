"""What must come to hold once the faults are over: each a question that is answered with a reason.

A function here returns None when its condition holds, and otherwise a sentence that says what does
not, so a run that does not settle can tell what it was waiting for.
"""

from __future__ import annotations

from gossip.rows import Row, State
from tests.simulation.host import Host
from tests.simulation.world import World


def rows(world: World, host: Host) -> dict[int, Row]:
    """Return a host's whole table."""
    return {member.row.uid: member.row for member in world.view(host).members}


def tables_differ(world: World) -> str | None:
    """All running peers have the same table, row for row, and the living in it are they."""
    hosts = world.running()
    if not hosts:
        return None
    first = rows(world, hosts[0])
    for host in hosts[1:]:
        other = rows(world, host)
        if other == first:
            continue
        for uid in sorted({*first, *other}):
            if first.get(uid) != other.get(uid):
                return (
                    f"{hosts[0].name} and {host.name} differ about {uid:016x}:"
                    f" {first.get(uid)} and {other.get(uid)}"
                )
    return _living_differ(world, hosts, first)


def _living_differ(world: World, hosts: list[Host], table: dict[int, Row]) -> str | None:
    living = {uid for uid, row in table.items() if row.state is State.ALIVE}
    running = {host.uid for host in hosts}
    if wrong := sorted(living - running):
        return f"{wrong[0]:016x} is believed to be alive, and does not run"
    if missing := sorted(running - living):
        number = world.uids[missing[0]]
        return f"p{number} runs, and is {table.get(missing[0])}"
    for host in hosts:
        row = table[host.uid]
        if (row.epoch, row.body.address) != (host.epoch, host.address):
            return f"{host.name} is known as it once was: {row}"
    return None


def uids_shared(world: World) -> str | None:
    """No two running peers have one uid."""
    seen: dict[int, Host] = {}
    for host in world.running():
        other = seen.setdefault(host.uid, host)
        if other is not host:
            return f"{other.name} and {host.name} are both {host.uid:016x}"
    return None


def leaders_differ(world: World) -> str | None:
    """All running peers propose the same running leader, if there is anybody who could.

    Where so many were lost that less than a half may be left, all propose nobody, or all the same.
    """
    hosts = world.running()
    proposed = {host.name: world.view(host).leader for host in hosts}
    values = list(dict.fromkeys(proposed.values()))
    if len(values) > 1:
        return f"the peers propose different leaders: {proposed}"
    eligible = {host.uid for host in hosts if host.eligible}
    if values == [None] and 2 * len(hosts) < len(world.uids):
        return None
    if values and eligible and values[0] not in eligible:
        return f"nobody eligible is proposed, but {values[0]}: {proposed}"
    return None


def keys_differ(world: World) -> str | None:
    """All running peers have the same key ring."""
    rings = [(host.name, host.keys) for host in world.running()]
    for name, ring in rings[1:]:
        if ring != rings[0][1]:
            return f"{rings[0][0]} and {name} have different key rings"
    return None


def unsettled(world: World) -> str | None:
    """Everything at once, but for leaders, which take longer."""
    return uids_shared(world) or keys_differ(world) or tables_differ(world)
