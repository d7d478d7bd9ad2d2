"""The lab's network: a switch (a bridge of this machine) and a cable to every node's namespace.

The nodes have no default route. Nothing of the lab gets out of this machine; and an engine that
looks for a registry fails at once, where it would wait 20 s for a name server that nobody runs.

The bridge is the machine's own rather than in a namespace too, so that a browser reaches what nodes
publish, and containers reach services that listen on the bridge's address.
"""

from __future__ import annotations

import json
from contextlib import suppress
from ipaddress import IPv4Network
from pathlib import Path

from deploy.lab.errors import LabError
from deploy.lab.plan import Node, Plan
from deploy.lab.shell import run, works

NAMESPACES = Path("/run/netns")
INTERFACES = Path("/sys/class/net")


def find_user(subnet: IPv4Network) -> str | None:
    """Say which interface of this machine has addresses or routes of the subnet already."""
    for route in json.loads(run("ip", "-json", "-4", "route", "show", "table", "all")):
        where = route["dst"]
        if where == "default":
            continue
        if IPv4Network(where, strict=False).overlaps(subnet):
            return str(route.get("dev", route.get("type", "a route")))
    return None


def build(plan: Plan) -> None:
    """Make the switch, and let frames pass through it."""
    if (user := find_user(plan.subnet)) is not None:
        raise LabError(
            f"{plan.subnet} is in use on this machine ({user}); choose another with --subnet."
        )
    _add_link(plan.bridge, "bridge")
    run("ip", "address", "add", f"{plan.gateway}/{plan.subnet.prefixlen}", "dev", plan.bridge)
    run("ip", "link", "set", plan.bridge, "up")
    # Bridged frames pass the machine's firewall where bridge-nf-call-iptables is 1, and a Docker
    # engine of the machine's own sets the policy there to DROP.
    run("iptables", "--wait", "--insert", "FORWARD", *_rule(plan))


def attach(plan: Plan, node: Node) -> None:
    """Make a node's namespace, with the cable in it."""
    run("ip", "netns", "add", node.namespace)
    _add_link(node.link, "veth", "peer", "name", "eth0", "netns", node.namespace)
    run("ip", "link", "set", node.link, "master", plan.bridge, "up")
    inside = ("ip", "-netns", node.namespace)
    # Swarm makes these when the first overlay network comes to the node: too late to be told well.
    _add_link("probe", "vxlan", "id", "1", "dstport", "4789", namespace=node.namespace)
    run(*inside, "link", "delete", "probe")
    run(*inside, "link", "set", "lo", "up")
    run(*inside, "address", "add", f"{node.address}/{plan.subnet.prefixlen}", "dev", "eth0")
    run(*inside, "link", "set", "eth0", "up")


def cut(node: Node) -> None:
    """Pull the cable: nobody hears the node, and it hears nobody."""
    run("ip", "link", "set", node.link, "down")


def heal(node: Node) -> None:
    """Put the cable back."""
    run("ip", "link", "set", node.link, "up")


def is_connected(node: Node) -> bool:
    """Whether the cable is there and plugged in."""
    try:
        flags = int((INTERFACES / node.link / "flags").read_text(), 16)
    except FileNotFoundError:
        return False
    return bool(flags & 1)


def detach(node: Node) -> None:
    """Remove a node's cable and namespace; none is fine, too."""
    # A namespace's last process may be gone a moment before its devices are: the cable by its name.
    if (INTERFACES / node.link).exists():
        with suppress(LabError):
            run("ip", "link", "delete", node.link)
    if (NAMESPACES / node.namespace).exists():
        run("ip", "netns", "delete", node.namespace)


def remove(plan: Plan) -> None:
    """Remove the switch and its rule; what is not there is fine, too."""
    while works("iptables", "--wait", "--check", "FORWARD", *_rule(plan)):
        run("iptables", "--wait", "--delete", "FORWARD", *_rule(plan))
    if (INTERFACES / plan.bridge).exists():
        run("ip", "link", "delete", plan.bridge)


def find_leftovers(plan: Plan) -> list[str]:
    """Name what of this is still there."""
    found = []
    if NAMESPACES.is_dir():
        namespaces = {node.namespace for node in plan.places}
        found += [
            f"network namespace {path.name}"
            for path in sorted(NAMESPACES.iterdir())
            if path.name in namespaces
        ]
    interfaces = {plan.bridge, *(node.link for node in plan.places)}
    found += [
        f"network interface {path.name}"
        for path in sorted(INTERFACES.iterdir())
        if path.name in interfaces
    ]
    if works("iptables", "--wait", "--check", "FORWARD", *_rule(plan)):
        found.append(f"firewall rule for {plan.bridge}")
    return found


def _add_link(name: str, kind: str, *more: str, namespace: str = "") -> None:
    where = ("-netns", namespace) if namespace else ()
    try:
        run("ip", *where, "link", "add", name, "type", kind, *more)
    except LabError as error:
        if "Unknown device type" in str(error) or "not supported" in str(error):
            raise LabError(
                f"This kernel has no {kind} devices, and `modprobe {kind}` did not bring them."
            ) from None
        raise


def _rule(plan: Plan) -> tuple[str, ...]:
    return ("--in-interface", plan.bridge, "--out-interface", plan.bridge, "--jump", "ACCEPT")
