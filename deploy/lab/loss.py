"""A network that loses datagrams: the nodes drop a share of the UDP that reaches them.

Meant is the UDP of containers, which is what peers gossip by, and of the engines' own gossip. All
that containers say to each other travels as UDP between nodes, in VXLAN; to drop that would slow
every TCP connection to a crawl as well, and the database's users would notice long before the
membership does. So the rule looks into the packet, for the protocol of the one inside. `tc netem`,
the usual tool, cannot, and many kernels of virtual machines lack it.

The rules are in the nodes' own namespaces, and go with them.
"""

from __future__ import annotations

import re

from deploy.lab import machine
from deploy.lab.errors import LabError
from deploy.lab.plan import Node

CHAIN = "GRAPEVINE-LOSS"
VXLAN_PORT = "4789"
ENGINES_PORT = "7946"

# Behind the outer IP, UDP and VXLAN headers and the inner Ethernet one (20 + 8 + 8 + 14 bytes) the
# inner IP header begins, and its tenth byte is the protocol: the last one of the four from 56 on.
INNER_IS_UDP = "56 & 0xFF = 17"


def set_percent(node: Node, percent: float) -> None:
    """Drop so many of a hundred datagrams that reach the node; 0 ends it."""
    if not 0 <= percent <= 100:
        raise LabError(f"A loss is 0 to 100 percent, not {percent:g}.")
    _clear(node)
    if percent == 0:
        return
    _iptables(node, "--new-chain", CHAIN)
    chance = ("--match", "statistic", "--mode", "random", "--probability", f"{percent / 100:.4f}")
    arriving = ("--append", CHAIN, "--protocol", "udp", "--destination-port")
    _iptables(node, *arriving, VXLAN_PORT, "--match", "u32", "--u32", INNER_IS_UDP,
              *chance, "--jump", "DROP")  # fmt: skip
    _iptables(node, *arriving, ENGINES_PORT, *chance, "--jump", "DROP")
    _iptables(node, "--insert", "INPUT", "--in-interface", "eth0", "--jump", CHAIN)


def find_percent(node: Node) -> float:
    """Read from the node's rules what is dropped now."""
    try:
        rules = _iptables(node, "--list-rules", CHAIN)
    except LabError:
        return 0.0  # there is no such chain, or the node is off
    found = re.search(r"--probability ([0-9.]+)", rules)
    return round(float(found[1]) * 100, 2) if found else 0.0


def _clear(node: Node) -> None:
    jump = ("INPUT", "--in-interface", "eth0", "--jump", CHAIN)
    for order in (("--delete", *jump), ("--flush", CHAIN), ("--delete-chain", CHAIN)):
        try:
            _iptables(node, *order)
        except LabError:
            return  # nothing is dropped


def _iptables(node: Node, *order: str) -> str:
    return machine.execute(node, "iptables", "--wait", *order)
