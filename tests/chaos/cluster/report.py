"""What a run was like: a page of text and a picture, from its timeline and its facts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.chaos.cluster.facts import Facts
from tests.chaos.cluster.picture import draw_picture
from tests.chaos.cluster.timeline import FILE, Entry, read_timeline
from tests.simulation.scaling.picture import save_picture

TEXT, PICTURE = "report.txt", "timeline.png"


def write(folder: Path, objections: Sequence[str], facts: Facts | None, *, again: str) -> str:
    """Write both into the run's folder, and return the text."""
    entries = list(read_timeline(folder / FILE))
    text = "\n".join(_tell(entries, objections, facts, again)) + "\n"
    (folder / TEXT).write_text(text)
    save_picture(draw_picture(entries), folder / PICTURE)
    return text


def _tell(
    entries: Sequence[Entry], objections: Sequence[str], facts: Facts | None, again: str
) -> Iterator[str]:
    faults = Counter(entry["kind"] for entry in entries if entry["what"] == "begins")
    missed = Counter(entry["kind"] for entry in entries if entry["what"] in ("missed", "left out"))
    yield f"{sum(faults.values())} faults in {entries[-1]['at_s']:.0f} s:"
    for kind in sorted(faults.keys() | missed.keys()):
        yield f"  {faults[kind]:3} {kind}" + (f" ({missed[kind]} missed)" if missed[kind] else "")
    if facts is not None:
        yield from _tell_facts(facts)
    yield ""
    if objections:
        yield f"{len(objections)} promises were broken:"
        yield from (f"  {objection}" for objection in objections)
    else:
        yield "Every promise was kept."
    yield f"Again: {again}"


def _tell_facts(facts: Facts) -> Iterator[str]:
    states = Counter(trail.state for trail in facts.trails)
    attempts = [len(trail.claims) for trail in facts.trails]
    yield ", ".join(f"{count} {state}" for state, count in sorted(states.items())) + " tasks"
    yield (
        f"{sum(attempts)} attempts, {sum(held.expired for held in facts.held)} of them lost with"
        f" their holder, {max(attempts, default=0)} at most for a task"
    )
    yield f"{len(facts.committed)} outputs in the store, {len(facts.dead)} dead letters"
    if facts.met_after_s is not None:
        after = f"{facts.met_after_s:.1f} s after the last change"
        yield f"{len(facts.look.tables)} tables equal {after}"
