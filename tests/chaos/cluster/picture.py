"""A run as one picture: when what was broken, and what members, queue and throughput did meanwhile.

Drawn as SVG by hand, for the same reason as the scaler's days (`tests.simulation.scaling`).
Pure: the timeline's entries in, the SVG out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from tests.chaos.cluster.schedule import Lane
from tests.chaos.cluster.timeline import Entry

WIDTH, LEFT, RIGHT, TOP = 1000, 150, 20, 30
LANE_HEIGHT, CHART_HEIGHT, GAP = 34, 110, 26
SHORTEST = 3.0
"""How wide what takes no time is drawn."""
PER_MINUTE_S = 60.0

COLOURS = {
    Lane.NODES: "#d62728",
    Lane.NETWORK: "#9467bd",
    Lane.PEERS: "#ff7f0e",
    Lane.SERVICES: "#1f77b4",
}

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a chart."""

    name: str
    colour: str
    points: Points


@dataclass(frozen=True, slots=True)
class Scale:
    """Where a moment is drawn."""

    seconds: float

    def x(self, at_s: float) -> float:
        """From the left."""
        return LEFT + (WIDTH - LEFT - RIGHT) * at_s / self.seconds


def draw_picture(entries: Sequence[Entry]) -> str:
    """Return the SVG of a run."""
    scale = Scale(max([entry["at_s"] for entry in entries] or [1.0]) or 1.0)
    charts = [
        ("members", _members(entries)),
        ("queue", _queue(entries)),
        ("tasks a minute", [Line("done", "#2ca02c", _throughput(entries))]),
    ]
    height = TOP + len(Lane) * LANE_HEIGHT + len(charts) * (CHART_HEIGHT + GAP) + GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
        f'height="{height}" font-family="sans-serif" font-size="11">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
    ]
    for number, lane in enumerate(Lane):
        parts += _draw_lane(entries, lane, scale, y=TOP + number * LANE_HEIGHT)
    y = TOP + len(Lane) * LANE_HEIGHT + GAP
    for name, lines in charts:
        parts += _draw_chart(name, lines, scale, y=y)
        y += CHART_HEIGHT + GAP
    parts += _draw_minutes(scale, height)
    return "\n".join([*parts, "</svg>", ""])


def _draw_lane(entries: Sequence[Entry], lane: Lane, scale: Scale, *, y: int) -> Iterator[str]:
    yield f'<text x="4" y="{y + 14}" font-weight="bold">{lane}</text>'
    for number, (fault, ends_s) in enumerate(_spans(entries, lane, scale.seconds)):
        x = scale.x(fault["at_s"])
        width = max(SHORTEST, scale.x(ends_s) - x)
        told = escape(f"{fault['kind']} {fault['target']}")
        yield (
            f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="12" fill="{COLOURS[lane]}">'
            f"<title>{told}</title></rect>"
        )
        # One above the other in turns, so that short ones beside each other can be read.
        below = y + 20 + 8 * (number % 2)
        yield f'<text x="{x:.1f}" y="{below}" font-size="7">{told}</text>'


def _spans(entries: Sequence[Entry], lane: Lane, seconds: float) -> Iterator[tuple[Entry, float]]:
    """Each fault of a lane, and when it ended: on a lane one follows the other."""
    begun: Entry | None = None
    for entry in entries:
        if entry.get("lane") != lane:
            continue
        if entry["what"] == "begins":
            begun = entry
        elif entry["what"] == "ends" and begun is not None:
            yield begun, entry["at_s"]
            begun = None
    if begun is not None:
        yield begun, seconds


def _samples(entries: Sequence[Entry]) -> list[Entry]:
    return [entry for entry in entries if entry["what"] == "sample"]


def _members(entries: Sequence[Entry]) -> list[Line]:
    samples = _samples(entries)

    def told(state: str) -> Points:
        return [
            (each["at_s"], each["members"].get(state, 0)) for each in samples if each["members"]
        ]

    running = [
        (each["at_s"], each["containers"].get("peer", 0) + each["containers"].get("seed", 0))
        for each in samples
        if each["containers"]
    ]
    return [
        Line("containers that run", "#bbbbbb", running),
        Line("alive", "#2ca02c", told("alive")),
        Line("suspect", "#ff7f0e", told("suspect")),
        Line("dead", "#d62728", told("dead")),
    ]


def _queue(entries: Sequence[Entry]) -> list[Line]:
    samples = _samples(entries)

    def told(state: str) -> Points:
        return [(each["at_s"], each["tasks"].get(state, 0)) for each in samples if each["tasks"]]

    messages = [
        (each["at_s"], each["messages"]) for each in samples if each["messages"] is not None
    ]
    return [
        Line("messages", "#bbbbbb", messages),
        Line("tasks that wait", "#d62728", told("queued")),
        Line("tasks being worked on", "#1f77b4", told("running")),
    ]


def _throughput(entries: Sequence[Entry]) -> Points:
    """How many were done in the minute before each sample, by how many were done in all."""
    done = [
        (each["at_s"], each["tasks"].get("done", 0)) for each in _samples(entries) if each["tasks"]
    ]
    points = []
    for at_s, count in done:
        before = [earlier for then_s, earlier in done if then_s <= at_s - PER_MINUTE_S]
        points.append((at_s, float(count - (before[-1] if before else 0))))
    return points


def _draw_chart(name: str, lines: Sequence[Line], scale: Scale, *, y: int) -> Iterator[str]:
    top = max([value for line in lines for _, value in line.points] + [1.0])
    yield (
        f'<rect x="{LEFT}" y="{y}" width="{WIDTH - LEFT - RIGHT}" height="{CHART_HEIGHT}" '
        'fill="#f7f7f7"/>'
    )
    yield f'<text x="4" y="{y + 14}" font-weight="bold">{name}</text>'
    yield f'<text x="{LEFT - 4}" y="{y + 9}" text-anchor="end">{top:g}</text>'
    yield f'<text x="{LEFT - 4}" y="{y + CHART_HEIGHT}" text-anchor="end">0</text>'
    for number, line in enumerate(lines):
        points = " ".join(
            f"{scale.x(at_s):.1f},{y + CHART_HEIGHT * (1 - value / top):.1f}"
            for at_s, value in line.points
        )
        yield f'<polyline fill="none" stroke="{line.colour}" points="{points}"/>'
        yield f'<text x="4" y="{y + 32 + 13 * number}" fill="{line.colour}">{line.name}</text>'


def _draw_minutes(scale: Scale, height: int) -> Iterator[str]:
    minute = 0
    while minute * PER_MINUTE_S <= scale.seconds:
        x = scale.x(minute * PER_MINUTE_S)
        yield f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{height - GAP}" stroke="#dddddd"/>'
        yield f'<text x="{x:.1f}" y="{height - 8}" text-anchor="middle">{minute} min</text>'
        minute += 1
