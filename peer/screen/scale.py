"""Scaling on a terminal: what there is, what should be, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from peer.scale.protocol import (
    ShownDecision,
    ShownLook,
    ShownNode,
    ShownReason,
    ShownScaling,
)
from peer.screen.tables import plain_table
from peer.screen.words import age_text, percent_text, seconds_text, since
from scaling.words import counted

MODES = {
    "acting": "",
    "dry_run": "dry run: nothing of it is done",
    "paused": "paused: nothing of it is done",
}
OLD_S = 60.0
"""A look that is older than this tells little of how it is now."""
ALIKE_MIN = 3
"""So many nodes on standby in a row are one row: there is nothing to tell of each."""
NO_LEADER = (
    "who leads is chosen when ten seconds have changed nothing: "
    "the oldest peer that is not drained and reaches the orchestrator"
)


def scaling_page(shown: ShownScaling, now: datetime) -> Iterator[RenderableType]:
    """Yield what is printed, one after the other."""
    yield _heading(shown)
    if shown.paused is not None:
        pause = shown.paused
        why = f": {pause.why}" if pause.why else ""
        yield Text(f"paused by {pause.by} {since(pause.at, now)} ago{why}", style="warn")
    if shown.reach:
        yield Text(f"this peer does not reach it: {shown.reach}", style="warn")
    if shown.leader is None and not shown.reach:
        yield Text(NO_LEADER, style="quiet")
    look = shown.look
    if look is None:
        yield Text("no leader has looked yet", style="quiet")
        return
    age = Text(f"seen by {look.leader} (term {look.term}) {age_text(look.age_s)} ago")
    age.stylize("warn" if look.age_s > OLD_S else "quiet")
    yield age
    if MODES[look.mode] and shown.paused is None:
        yield Text(MODES[look.mode], style="warn")
    yield Text("")
    yield _numbers(look)
    work = "nobody knows how much there is" if look.demand is None else _work_of(look.demand)
    yield Text(f"work        {work}")
    if look.nodes:
        yield Text("")
        yield _nodes(look.nodes)
    yield Text("")
    yield from _reasons(look.reasons)
    yield from _machines(look.machines)


def decision_page(shown: ShownDecision, *, replayed: str | None) -> Iterator[RenderableType]:
    """Yield one decision.

    Of several in a row that are alike the numbers are the first one's, of which all is on record,
    and the reasons the last one's.

    Args:
        replayed: What is decided now from the same; empty when that is the same, None: not tried.
    """
    desired = shown.considered["decision"]["desired"]
    snapshot = shown.considered["snapshot"]
    held = shown.considered["decision"]["held"]
    times = f"{shown.last_at:%Y-%m-%d %H:%M:%S}"
    if shown.count > 1:
        times = (
            f"{shown.first_at:%Y-%m-%d %H:%M:%S} to {shown.last_at:%H:%M:%S}, {shown.count} times"
        )
    yield Text.assemble(
        (f"#{shown.number}", "title"), f"  {times}  by {shown.leader} (term {shown.term})"
    )
    serving = sum(node["state"] in ("ready", "cordoned") for node in snapshot["nodes"])
    wanted = counted(snapshot["wanted"], "container", "containers")
    there = f"  {wanted} on {counted(serving, 'node', 'nodes')}"
    if held:
        yield Text(f"{there}: held", style="warn")
    else:
        yield Text(f"{there}, should be {desired['containers']} on {desired['nodes']}")
    if demand := snapshot["demand"]:
        when = "at first " if shown.count > 1 else ""
        yield Text(f"  {when}{_work(demand)}", style="quiet")
    if MODES[shown.mode]:
        yield Text(f"  {MODES[shown.mode]}", style="warn")
    yield from _reasons(shown.reasons)
    yield from _machines(snapshot.get("machines", ()))
    yield from _actions(shown.actions, shown.outcomes)
    if replayed is not None:
        style = "warn" if replayed else "good"
        said = f"now it would be {replayed}" if replayed else "the same answer now"
        yield Text(f"  replayed: {said}", style=style)
    yield Text("")


def _heading(shown: ShownScaling) -> Text:
    line = Text(shown.orchestrator, style="title")
    leader = f"{shown.leader} leads"
    if shown.leader is None:
        # A newcomer knows none for its first seconds, whoever leads.
        leader = "nobody leads" if shown.look is None else "this peer knows of no leader"
    line.append(f"; {leader}", style="warn" if shown.leader is None else "")
    return line


def _numbers(look: ShownLook) -> RenderableType:
    states = ", ".join(f"{count} {state}" for state, count in sorted(look.containers.items()))
    serving = sum(node.state in ("ready", "cordoned") for node in look.nodes)
    table = plain_table("WHAT", ("NOW", {"no_wrap": False}), ("SHOULD BE", {"no_wrap": False}))
    table.add_row(
        "containers",
        f"{look.wanted} wanted ({states or 'none there'})",
        "held" if look.held else str(look.desired_containers),
    )
    table.add_row("nodes", f"{serving} in service", "held" if look.held else _desired_nodes(look))
    return table


def _desired_nodes(look: ShownLook) -> str:
    more = [f"{name} starting" for name in look.starting]
    more += [f"{name} leaving" for name in look.leaving]
    return ", ".join([str(look.desired_nodes), *more])


def _work_of(demand: Any) -> str:
    return _work(
        {
            "ready": demand.ready,
            "delayed": demand.delayed,
            "running": demand.running,
            "arrivals_per_s": demand.arrivals_per_s,
            "service_s": demand.service_s,
        }
    )


def _work(demand: Mapping[str, Any]) -> str:
    takes = demand["service_s"]
    said = [
        counted(demand["ready"], "waits", "wait"),
        counted(demand["running"], "is worked on", "are worked on"),
    ]
    if demand["delayed"]:
        said.append(counted(demand["delayed"], "waits", "wait") + " for another attempt")
    said.append(f"{demand['arrivals_per_s'] * 60:.1f} a minute arrive")
    if takes is not None:
        said.append(f"one takes {seconds_text(takes)}")
    return ", ".join(said)


def _nodes(nodes: Sequence[ShownNode]) -> RenderableType:
    right = {"justify": "right"}
    table = plain_table(
        "NODE", "STATE", ("CONTAINERS", right), ("CPU", right), ("MEMORY", right), ("FOR", right)
    )
    for alike in _alike(nodes):
        node = alike[0]
        if len(alike) >= ALIKE_MIN:
            names, room = f"{node.name} … {alike[-1].name}", sum(each.capacity for each in alike)
            table.add_row(Text(names), f"{len(alike)} on standby", f"0/{room}", "-", "-", "-")
            continue
        kept = " (kept)" if node.fixed else ""
        table.add_row(
            Text(node.name),
            f"{node.state}{kept}",
            f"{node.containers}/{node.capacity}",
            "-" if node.cpu is None else percent_text(node.cpu),
            "-" if node.memory is None else percent_text(node.memory),
            age_text(node.since_s),
        )
    return table


def _alike(nodes: Sequence[ShownNode]) -> Iterator[Sequence[ShownNode]]:
    """The nodes in their order: neighbours of which there is nothing to tell together, if many."""

    def idle(node: ShownNode) -> bool:
        return node.state == "standby" and not node.containers and node.cpu is None

    for together, group in groupby(nodes, key=idle):
        found = list(group)
        if together and len(found) >= ALIKE_MIN:
            yield found
        else:
            yield from ([node] for node in found)


def _reasons(reasons: Sequence[ShownReason]) -> Iterator[Text]:
    width = max((len(reason.code) for reason in reasons), default=0)
    for reason in reasons:
        yield Text.assemble("  ", (f"{reason.code:<{width}}", "quiet"), f"  {reason.text}")


def _machines(troubles: Sequence[str]) -> Iterator[Text]:
    for trouble in troubles:
        yield Text(f"  machines: {trouble}", style="warn")


def _actions(
    actions: Sequence[Mapping[str, Any]], outcomes: Sequence[Mapping[str, Any]]
) -> Iterator[Text]:
    for action in actions:
        found = [outcome for outcome in outcomes if {**action, "trouble": None} == _bare(outcome)]
        line = Text(f"  -> {_action_text(action)}")
        if not found:
            line.append(": not begun", style="quiet")
        elif found[0]["trouble"]:
            line.append(f": not done: {found[0]['trouble']}", style="warn")
        else:
            line.append(": done", style="good")
        yield line


def _bare(outcome: Mapping[str, Any]) -> dict[str, Any]:
    return {**outcome, "trouble": None}


def _action_text(action: Mapping[str, Any]) -> str:
    """`SetContainers 8`, `EmptyNode worker-2`."""
    return " ".join([action["action"], *(str(v) for k, v in action.items() if k != "action")])
