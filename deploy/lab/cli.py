"""The lab's commands."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from ipaddress import IPv4Network
from pathlib import Path

from deploy.lab.cluster import Lab, Standing, check
from deploy.lab.errors import LabError
from deploy.lab.images import peer, tiny
from deploy.lab.images.cache import CACHE, Cache
from deploy.lab.plan import STATE, SUBNET, Plan

DESCRIPTION = "A real Docker Swarm of several nodes on this one machine."


def main() -> None:
    """Do what the command line says; a failure is one sentence and exit code 1."""
    arguments = _parser().parse_args()
    command: Callable[[argparse.Namespace], None] = arguments.command
    try:
        command(arguments)
    except LabError as error:
        sys.exit(f"lab: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def say(sentence: str) -> None:
    """Tell the person at the terminal."""
    sys.stdout.write(f"{sentence}\n")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lab", description=DESCRIPTION)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(
        name: str, command: Callable[[argparse.Namespace], None], text: str
    ) -> argparse.ArgumentParser:
        one = commands.add_parser(name, help=text, description=text)
        one.add_argument("--name", default="lab", help="which lab (default: %(default)s)")
        one.set_defaults(command=command)
        return one

    up = add("up", _up, "Make a lab.")
    up.add_argument("--nodes", type=int, default=3, help="how many (default: %(default)s)")
    up.add_argument("--managers", type=int, default=1, help="of them (default: %(default)s)")
    up.add_argument("--subnet", type=_subnet, default=SUBNET, help="default: %(default)s")
    up.add_argument(
        "--heartbeat",
        type=float,
        default=5.0,
        metavar="S",
        help="Swarm misses a node after three of these (default: %(default)s, as Swarm's own)",
    )
    up.add_argument("--dir", type=Path, default=STATE, help="for its data (default: %(default)s)")
    up.add_argument(
        "--attached",
        action="store_true",
        help="stay, and take the lab down at the end of the input or Ctrl-C",
    )
    _add_image(up)

    status = add("status", _status, "Show the nodes.")
    status.add_argument("--json", action="store_true", help="for programs")

    for name, command, text in (
        ("cut", _cut, "Pull a node's network cable."),
        ("kill", _kill, "Switch a node off, as a power failure does."),
        ("start", _start, "Switch a node on again."),
    ):
        add(name, command, text).add_argument("node")
    heal = add("heal", _heal, "Put a node's cable back, or everybody's.")
    heal.add_argument("node", nargs="?")

    image = add(
        "image", _image, "Build an image, or take it from the cache, and put it on the nodes."
    )
    _add_image(image)

    add("down", _down, "Remove a lab, and whatever a crash left of one.")
    return parser


def _add_image(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--image",
        choices=("peer", "tiny"),
        default="peer",
        help=f"{peer.TAG}, this tree's peer, or {tiny.TAG}, a shell that behaves like one"
        " (default: %(default)s)",
    )
    parser.add_argument(
        "--cache",
        type=Path,
        default=CACHE,
        help="for layers of images, kept when the lab goes (default: %(default)s)",
    )


def _subnet(text: str) -> IPv4Network:
    try:
        return IPv4Network(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _up(arguments: argparse.Namespace) -> None:
    plan = Plan(
        name=arguments.name,
        nodes=arguments.nodes,
        managers=arguments.managers,
        subnet=arguments.subnet,
        heartbeat_s=arguments.heartbeat,
        state=arguments.dir.absolute(),
    )
    check()
    lab = Lab(plan, say)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with lab.held():
        image = _find_image(arguments)
        started = time.monotonic()
        lab.up()
        try:
            lab.load(image)
            _show(lab.status())
            say(f"Up after {time.monotonic() - started:.1f} s. To speak to it:")
            say(f"    export DOCKER_HOST=unix://{plan.members[0].socket}")
            if arguments.attached:
                while sys.stdin.readline():
                    pass
        except BaseException:  # Ctrl-C too
            lab.down()
            raise
        if arguments.attached:
            lab.down()


def _image(arguments: argparse.Namespace) -> None:
    check()
    lab = Lab.find(arguments.name)
    image = _find_image(arguments)
    started = time.monotonic()
    lab.load(image)
    say(f"On every node after {time.monotonic() - started:.1f} s")


def _find_image(arguments: argparse.Namespace) -> Path:
    """The archive of the image that is asked for, made if it is not in the cache."""
    cache = Cache(arguments.cache, say)
    return peer.write(cache) if arguments.image == "peer" else tiny.write(cache)


def _status(arguments: argparse.Namespace) -> None:
    standings = Lab.find(arguments.name).status()
    if arguments.json:
        say(json.dumps([asdict(standing) for standing in standings], indent=2))
    else:
        _show(standings)


def _show(standings: Sequence[Standing]) -> None:
    for one in standings:
        power = "on" if one.on else "off"
        cable = "" if one.connected or not one.on else ", cut off"
        role = one.role or "-"
        say(f"{one.name}  {one.address}  {power}{cable}  {one.state or '-'}  {role}  {one.socket}")


def _cut(arguments: argparse.Namespace) -> None:
    Lab.find(arguments.name).cut(arguments.node)


def _heal(arguments: argparse.Namespace) -> None:
    Lab.find(arguments.name).heal(arguments.node)


def _kill(arguments: argparse.Namespace) -> None:
    Lab.find(arguments.name).kill(arguments.node)


def _start(arguments: argparse.Namespace) -> None:
    Lab.find(arguments.name).start(arguments.node)


def _down(arguments: argparse.Namespace) -> None:
    plan = Plan(name=arguments.name)
    lab = Lab(plan, say)
    with lab.held():
        lab.down()
