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
from deploy.lab.containers import Container
from deploy.lab.errors import LabError
from deploy.lab.images import peer, services, tiny
from deploy.lab.images.cache import CACHE, Cache
from deploy.lab.plan import STATE, SUBNET, Plan
from deploy.lab.stack import WELL_S, Stack, check_docker

DESCRIPTION = "A real Docker Swarm of several nodes on this one machine, with Grapevine on it."
LINES = 100

Command = Callable[[argparse.Namespace], None]


def main() -> None:
    """Do what the command line says; a failure is one sentence and exit code 1."""
    arguments = _parser().parse_args()
    command: Command = arguments.command
    try:
        command(arguments)
    except LabError as error:
        sys.exit(f"lab: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # `lab logs | head`
        sys.stderr.close()
        sys.exit(1)


def say(sentence: str) -> None:
    """Tell the person at the terminal."""
    sys.stdout.write(f"{sentence}\n")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lab", description=DESCRIPTION)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Command, text: str) -> argparse.ArgumentParser:
        one = commands.add_parser(name, help=text, description=text)
        one.add_argument("--name", default="lab", help="which lab (default: %(default)s)")
        one.set_defaults(command=command)
        return one

    _add_up(add("up", _up, "Make a lab, and deploy the stack on it."))
    status = add("status", _status, "Show nodes, containers, and what is broken on purpose.")
    status.add_argument("--json", action="store_true", help="for programs")
    peerctl = add("peerctl", _peerctl, "Run peerctl where a peer lives.")
    peerctl.add_argument("arguments", nargs=argparse.REMAINDER, metavar="ARGUMENT")
    submit = add("submit", _submit, "Hand in a video of this machine.")
    submit.add_argument("video", type=Path)
    submit.add_argument(
        "options", nargs=argparse.REMAINDER, metavar="OPTION", help="of peerctl submit"
    )
    logs = add("logs", _logs, "Show what containers have written, also those that have ended.")
    logs.add_argument("target", nargs="?", default="", metavar="CONTAINER|SERVICE")
    logs.add_argument(
        "--tail", type=int, default=LINES, metavar="N", help="lines of each (default: %(default)s)"
    )

    add("cut", _cut, "Pull a node's network cable.").add_argument("node")
    heal = add("heal", _heal, "Put a node's cable back, or everybody's.")
    heal.add_argument("node", nargs="?")
    loss = add("loss", _loss, "Let nodes lose datagrams (UDP) of each other; 0 ends it.")
    loss.add_argument("percent", type=float)
    freeze = add("freeze", _freeze, "Let a container stand still.")
    freeze.add_argument("target", metavar="CONTAINER")
    thaw = add("thaw", _thaw, "Let a frozen container go on, or all.")
    thaw.add_argument("target", nargs="?", metavar="CONTAINER")
    kill = add("kill", _kill, "Kill a container, or switch a node off as a power failure does.")
    kill.add_argument("target", metavar="NODE|CONTAINER|SERVICE")
    kill.add_argument(
        "--engine", action="store_true", help="of the node: the Docker engine alone, with SIGKILL"
    )
    add("start", _start, "Switch a node on again, or its engine.").add_argument("node")

    image = add("image", _image, "Make images anew from this tree, and put them on the nodes.")
    _add_image(image, ("peer", "services", "tiny"))
    add("down", _down, "Remove a lab, and whatever a crash left of one.")
    return parser


def _add_up(up: argparse.ArgumentParser) -> None:
    up.add_argument("--nodes", type=int, default=3, help="how many (default: %(default)s)")
    up.add_argument("--managers", type=int, default=1, help="of them (default: %(default)s)")
    up.add_argument("--peers", type=int, default=2, help="to begin with (default: %(default)s)")
    up.add_argument("--bare", action="store_true", help="nodes and image only, nothing deployed")
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
    _add_image(up, ("peer", "tiny"))


def _add_image(parser: argparse.ArgumentParser, choices: Sequence[str]) -> None:
    meanings = {
        "peer": f"{peer.TAG}, this tree's peer",
        "services": f"{', '.join(services.TAGS)}, which have the data",
        "tiny": f"{tiny.TAG}, a shell that behaves like a peer (with --bare)",
    }
    told = "; ".join(meanings[choice] for choice in choices)
    parser.add_argument(
        "--image", choices=choices, default="peer", help=f"{told} (default: %(default)s)"
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
    if arguments.image == "tiny" and not arguments.bare:
        raise LabError("The stack needs the image of the peer; --image tiny goes with --bare.")
    check()
    if not arguments.bare:
        check_docker()
    lab = Lab(plan, say)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with lab.held():
        started = time.monotonic()
        lab.up()
        try:
            _load(arguments, lab)
            if not arguments.bare:
                _deploy(lab, arguments)
            lab.finish()
            _show(lab.status())
            say(f"Up after {time.monotonic() - started:.1f} s. To speak to it:")
            _advise(lab, bare=arguments.bare)
            if arguments.attached:
                while sys.stdin.readline():
                    pass
        except BaseException:  # Ctrl-C too
            lab.down()
            raise
        if arguments.attached:
            lab.down()


def _deploy(lab: Lab, arguments: argparse.Namespace) -> None:
    stack = Stack(lab, say)
    stack.load_services(Cache(arguments.cache, say))
    stack.deploy(peers=arguments.peers)
    say("Waiting until all of it is well")
    stack.wait_until_well(WELL_S)


def _advise(lab: Lab, *, bare: bool) -> None:
    """Say what to type next."""
    name = "" if lab.plan.name == Plan().name else f" --name {lab.plan.name}"
    if not bare:
        for command, argument, what in (
            ("peerctl", "table", "the peers, as they know each other"),
            ("submit", "clip.mp4", "hand in a video; several make the leader start peers"),
            ("peerctl", "tasks", "what becomes of it"),
            ("peerctl", "scale", "how many peers there are, should be, and why"),
            ("logs", "peer.1", "what a container says"),
            ("kill", "peer.1", "and see who takes over"),
        ):
            say(f"    {f'{sys.argv[0]} {command}{name} {argument}':48}  # {what}")
    say(f"    export DOCKER_HOST=unix://{lab.plan.members[0].socket}")


def _image(arguments: argparse.Namespace) -> None:
    check()
    _load(arguments, Lab.find(arguments.name))


def _load(arguments: argparse.Namespace, lab: Lab) -> None:
    """Put the images that are asked for on the nodes that run them, made if they are not cached."""
    cache = Cache(arguments.cache, say)
    if arguments.image == "services":
        Stack(lab, say).load_services(cache)
    elif arguments.image == "tiny":
        lab.load(tiny.write(cache))
    else:
        lab.load(peer.write(cache, lab.engine_to_build_with()))


def _status(arguments: argparse.Namespace) -> None:
    lab = Lab.find(arguments.name)
    nodes, running, percent = lab.status(), Stack(lab).containers(), lab.find_loss()
    if arguments.json:
        found = {
            "nodes": [asdict(one) for one in nodes],
            "containers": [asdict(one) for one in running],
            "loss_percent": percent,
        }
        say(json.dumps(found, indent=2))
        return
    _show(nodes)
    if running:
        say("")
        width = max(len(one.name) for one in running)
        for one in running:
            say(f"{one.name:{width}}  {one.node}  {_describe(one)}")
    if percent:
        say(f"\n{percent:g} % of the nodes' datagrams are lost.")


def _describe(container: Container) -> str:
    if container.frozen:
        return "frozen"
    return "healthy" if container.healthy else "not healthy"


def _show(standings: Sequence[Standing]) -> None:
    for one in standings:
        power = "on" if one.on else "off"
        cable = "" if one.connected or not one.on else ", cut off"
        role = one.role or "-"
        say(f"{one.name}  {one.address}  {power}{cable}  {one.state or '-'}  {role}  {one.socket}")


def _peerctl(arguments: argparse.Namespace) -> None:
    done = Stack(Lab.find(arguments.name)).peerctl(*arguments.arguments)
    _tell(done.output, done.errors, done.exit_code)


def _submit(arguments: argparse.Namespace) -> None:
    done = Stack(Lab.find(arguments.name)).submit(arguments.video, *arguments.options)
    _tell(done.output, done.errors, done.exit_code)


def _tell(output: str, errors: str, exit_code: int) -> None:
    sys.stdout.write(output)
    sys.stdout.flush()
    sys.stderr.write(errors)
    sys.exit(exit_code)


def _logs(arguments: argparse.Namespace) -> None:
    logs = Stack(Lab.find(arguments.name)).logs(arguments.target, lines=arguments.tail)
    for log in logs:
        # Of one container the lines as they are, for whoever reads them by a program.
        before = f"{log.name}  " if len(logs) > 1 else ""
        for line in log.text.splitlines():
            say(before + line)


def _cut(arguments: argparse.Namespace) -> None:
    Lab.find(arguments.name).cut(arguments.node)


def _heal(arguments: argparse.Namespace) -> None:
    Lab.find(arguments.name).heal(arguments.node)


def _loss(arguments: argparse.Namespace) -> None:
    Lab.find(arguments.name).set_loss(arguments.percent)


def _freeze(arguments: argparse.Namespace) -> None:
    stack = Stack(Lab.find(arguments.name))
    stack.freeze(stack.find(arguments.target))


def _thaw(arguments: argparse.Namespace) -> None:
    stack = Stack(Lab.find(arguments.name))
    for one in stack.containers() if arguments.target is None else [stack.find(arguments.target)]:
        stack.thaw(one)


def _kill(arguments: argparse.Namespace) -> None:
    lab, target = Lab.find(arguments.name), arguments.target
    if arguments.engine:
        lab.kill_engine(target)
    elif lab.plan.has(target):
        lab.kill(target)
    else:
        stack = Stack(lab)
        try:
            stack.kill(stack.find(target))
        except LabError as error:
            nodes = ", ".join(node.name for node in lab.plan.members)
            raise LabError(f"{error} Nodes: {nodes}.") from None


def _start(arguments: argparse.Namespace) -> None:
    Lab.find(arguments.name).start(arguments.node)


def _down(arguments: argparse.Namespace) -> None:
    plan = Plan(name=arguments.name)
    lab = Lab(plan, say)
    with lab.held():
        lab.down()
