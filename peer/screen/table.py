"""The gossip table on a terminal: one row a member, and above it what concerns them all.

A terminal has 80 columns, or 200. What a person looks for first (who, in which state, how busy) is
always there; the rest is added in the order of its use as far as the width goes. The alternative,
folding every row into two lines, cannot be scanned with the eye.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from rich.console import Group, RenderableType
from rich.text import Text

from peer.protocol import GossipTable, TableMember
from peer.screen.tables import plain_table
from peer.screen.words import age_text, milliseconds_text, percent_text
from peer.terminal import program

STALE_LOAD_S = 10.0
"""A load that is older is shown as what it is: quiet. It should be a second or two."""

BUSY = 0.9


@dataclass(frozen=True, slots=True)
class _Column:
    """A column: its heading, what stands in it, and how wide it is taken to be.

    Args:
        rank: The lower ones are kept longest when there is little room; 0 always.
    """

    heading: str
    cell: Callable[[TableMember], Text]
    rank: int
    width: int
    justify: Literal["left", "right"] = "left"


def cluster_table(
    table: GossipTable, width: int | None, height: int | None = None
) -> RenderableType:
    """The whole picture.

    Args:
        width: In columns; None for every column in full.
        height: In lines; None for every member.
    """
    above = heading(table)
    members = table.members
    if height is not None and len(above) + 1 + len(members) > height:
        members = members[: max(0, height - len(above) - 2)]
    columns = _chosen(members, width)
    grid = plain_table(
        *(
            (
                column.heading,
                {"justify": column.justify, "overflow": "ellipsis"}
                | ({} if width is None else {"max_width": column.width}),
            )
            for column in columns
        )
    )
    for member in members:
        grid.add_row(
            *(column.cell(member) for column in columns), style="" if member.lives else "quiet"
        )
    hidden = len(table.members) - len(members)
    below = [Text(f"… and {hidden} more", style="quiet")] if hidden else []
    return Group(*above, grid, *below)


def heading(table: GossipTable) -> list[Text]:
    """What concerns all of them: a line of facts, and one for each warning."""
    count: Counter[str] = Counter(member.state for member in table.members)
    living = count["alive"] + count["suspect"]
    line = Text.assemble((f"{living} {'member' if living == 1 else 'members'}", "title"))
    for before, state in ((": ", "alive"), (", ", "suspect"), ("; ", "dead"), ("; ", "left")):
        if count[state]:
            line.append(before)
            line.append(f"{count[state]} {state}", style=state)
    line.append(" · leader ")
    line.append(*_leader(table))
    line.append(" · ")
    line.append(*(("quorum", "good") if table.quorate else ("no quorum", "bad")))
    line.append(f" · seen by {table.name}", style="quiet")
    return [line, *(Text(warning, style="warn") for warning in warnings(table)), Text("")]


def _leader(table: GossipTable) -> tuple[str, str]:
    by_uid = {member.uid: member.name for member in table.members}
    if table.leader is not None:
        return by_uid.get(table.leader, table.leader), "title"
    if table.candidate is not None:
        return f"none yet, perhaps {by_uid.get(table.candidate, table.candidate)}", "warn"
    return "none", "warn"


def warnings(table: GossipTable) -> list[str]:
    """What a person should know before believing the rows."""
    said = []
    if table.deaf:
        said.append(
            f"{table.name} hears hardly anybody and blames itself: its network, or its load. "
            "Ask another peer, too."
        )
    if table.suspected:
        said.append(f"Others take {table.name} for suspect or dead; it is contradicting them.")
    if table.mass_event:
        said.append(
            "So many fell silent at once that deaths are held back: more likely the network."
        )
    if not table.quorate:
        said.append(
            "Less than half of the recent members are alive here: no leader, and nobody's work is "
            "taken over before its lease ends."
        )
    if sick := ", ".join(member.name for member in table.members if "quarantined" in member.flags):
        said.append(
            f"Quarantined, for failing what others finish: {sick}. Look why in the log; then: "
            f"{program('peerctl')} resume PEER"
        )
    return said


def _chosen(members: Sequence[TableMember], width: int | None) -> list[_Column]:
    """As many columns as fit, by their ranks; empty ones take no room."""
    columns = [column for column in COLUMNS if column.heading != "FLAGS" or _any_flags(members)]
    if width is None:
        return columns
    taken: list[_Column] = []
    room = width
    for column in sorted(columns, key=lambda column: column.rank):
        needed = _width(column, members) + 2
        if column.rank and needed > room:
            continue
        room -= needed
        taken.append(column)
    return [column for column in columns if column in taken]


def _width(column: _Column, members: Sequence[TableMember]) -> int:
    widest = max((column.cell(member).cell_len for member in members), default=0)
    return max(len(column.heading), min(widest, column.width))


def _any_flags(members: Sequence[TableMember]) -> bool:
    return any(member.flags for member in members)


def _age(seconds: float) -> str:
    """With a tenth while that tells something: a second of silence is no second of a minute."""
    return f"{seconds:.1f} s" if seconds < 9.95 else age_text(seconds)


def _name(member: TableMember) -> Text:
    mark = "*" if member.leader else ""
    name = Text(f"{member.name}{mark}", style="title" if member.lives else "")
    if member.own:
        name.stylize("underline", 0, len(member.name))
    return name


def _state(member: TableMember) -> Text:
    return Text(member.state, style=member.state)


def _flags_cell(member: TableMember) -> Text:
    bad = {"deaf", "flapping", "quarantined", "silent"}
    return Text(", ").join(
        Text(flag, style="bad" if flag in bad else "warn") for flag in member.flags
    )


def _share(value: float, member: TableMember) -> Text:
    return Text(percent_text(value), style="warn" if value >= BUSY else _freshness(member))


def _freshness(member: TableMember) -> str:
    return "quiet" if member.load and member.load.age_s > STALE_LOAD_S else ""


def _of_load(show: Callable[[TableMember], Text]) -> Callable[[TableMember], Text]:
    """A cell of the load; the dead have none, and a new member has not said it yet."""

    def cell(member: TableMember) -> Text:
        return show(member) if member.load and member.lives else Text("")

    return cell


def _cpu(member: TableMember) -> Text:
    return _share(member.load.cpu if member.load else 0.0, member)


def _memory(member: TableMember) -> Text:
    return _share(member.load.memory if member.load else 0.0, member)


def _slots(member: TableMember) -> Text:
    load = member.load
    return Text(f"{load.running}/{load.slots}" if load else "", style=_freshness(member))


def _lag(member: TableMember) -> Text:
    lag_s = member.load.lag_s if member.load else 0.0
    return Text(milliseconds_text(lag_s), style="warn" if lag_s > 0.5 else _freshness(member))


def _queue(member: TableMember) -> Text:
    return Text(str(member.load.queue) if member.load else "", style=_freshness(member))


COLUMNS = (
    _Column("NAME", _name, 0, 20),
    _Column("ADDRESS", lambda member: Text(member.address), 8, 47),
    _Column("STATE", _state, 0, 7),
    _Column("FLAGS", _flags_cell, 3, 24),
    _Column("AGE", lambda member: Text(_age(member.age_s)), 1, 6, "right"),
    _Column("CPU", _of_load(_cpu), 2, 5, "right"),
    _Column("MEM", _of_load(_memory), 4, 5, "right"),
    _Column("JOBS", _of_load(_slots), 1, 7, "right"),
    _Column("QUEUE", _of_load(_queue), 11, 7, "right"),
    _Column("LAG", _of_load(_lag), 6, 7, "right"),
    _Column("EPOCH", lambda member: Text(f"{member.epoch}.{member.incarnation}"), 7, 16),
    _Column("NODE", lambda member: Text(member.node), 5, 24),
    _Column("CONTAINER", lambda member: Text(member.container), 10, 16),
    _Column("VERSION", lambda member: Text(member.version), 9, 12),
    _Column("UID", lambda member: Text(member.uid[:8]), 12, 8),
)
"""In the order in which they stand."""
