"""The table's days as one picture: a row a trace, a column a scaler; queue, containers, nodes.

It is drawn as SVG by hand, and ffmpeg, which is there anyway, makes a PNG of it: a plotting library
would bring forty megabytes for three lines in a frame.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

Series = Sequence[tuple[float, int, int, int]]
"""Time in seconds, parts that wait, containers, machines that are paid for."""

WIDTH, HEIGHT, GAP, LEFT, TOP = 300, 110, 24, 90, 40
POINTS = 300
LINES = (
    (1, "#d62728", "parts that wait (square root)"),
    (2, "#1f77b4", "containers"),
    (3, "#2ca02c", "nodes, times 4"),
)
CONTAINERS_MAX = 80
READY_MAX = 900


def draw_picture(days: Mapping[tuple[str, str], Series], *, hours: float) -> str:
    """Return the SVG of the days, by trace and scaler."""
    traces = list(dict.fromkeys(trace for trace, _ in days))
    scalers = list(dict.fromkeys(scaler for _, scaler in days))
    width = LEFT + len(scalers) * (WIDTH + GAP)
    height = TOP + len(traces) * (HEIGHT + GAP) + GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for column, scaler in enumerate(scalers):
        x = LEFT + column * (WIDTH + GAP)
        parts.append(f'<text x="{x}" y="{TOP - 8}" font-weight="bold">{scaler}</text>')
    for row, trace in enumerate(traces):
        y = TOP + row * (HEIGHT + GAP)
        parts.append(f'<text x="4" y="{y + HEIGHT / 2}">{trace}</text>')
        for column, scaler in enumerate(scalers):
            x = LEFT + column * (WIDTH + GAP)
            parts.append(_chart(days[trace, scaler], x=x, y=y, seconds=hours * 3600))
    x = LEFT
    for _, colour, label in LINES:
        parts.append(f'<text x="{x}" y="{height - 8}" fill="{colour}">{label}</text>')
        x += 220
    return "\n".join([*parts, "</svg>", ""])


def save_picture(svg: str, file: Path) -> None:
    """Write it as what the file's name says, SVG or PNG.

    Raises:
        RuntimeError: This machine's ffmpeg cannot read SVG.
    """
    if file.suffix != ".png":
        file.write_text(svg)
        return
    with tempfile.NamedTemporaryFile("w", suffix=".svg") as drawn:
        drawn.write(svg)
        drawn.flush()
        command = ["ffmpeg", "-v", "error", "-y", "-i", drawn.name, str(file)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(
            f"ffmpeg has not made {file}: {done.stderr.strip()}; Debian's can read SVG, others may "
            "lack librsvg: take a name that ends with .svg"
        )


def _chart(series: Series, *, x: int, y: int, seconds: float) -> str:
    frame = f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" fill="#f7f7f7"/>'
    step = max(1, len(series) // POINTS)
    lines = []
    for index, colour, _ in LINES:
        points = " ".join(
            f"{x + WIDTH * entry[0] / seconds:.1f},{y + HEIGHT * (1 - _share(index, entry)):.1f}"
            for entry in series[::step]
        )
        lines.append(f'<polyline fill="none" stroke="{colour}" points="{points}"/>')
    return "\n".join([frame, *lines])


def _share(index: int, entry: tuple[float, int, int, int]) -> float:
    """Return how high a value stands: containers and nodes on one scale, 0 to 1."""
    if index == 1:
        return float(min(1.0, (entry[1] / READY_MAX) ** 0.5))
    containers = entry[2] if index == 2 else 4 * entry[3]
    return min(1.0, containers / CONTAINERS_MAX)
