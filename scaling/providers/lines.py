"""What the user's `list` command prints: one machine a line, as JSON or as two words. Pure.

    {"name": "grapevine-1", "state": "booting", "age_s": 12.5}
    grapevine-2 running

JSON for those who have more to say or a program at hand, words for a shell script. A third form, a
table with headings as `docker` or `openstack` print, would have to be guessed at. Empty lines, and
lines that begin with #, are nothing. What cannot be read is an error and never skipped: a machine
that is overlooked would be made a second time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import msgspec

from scaling.ports import Machine, ProviderFailed
from scaling.snapshot import NodeState

STATES = {
    # It exists and may join, or has joined: the orchestrator knows which.
    "booting": NodeState.BOOTING,
    "running": NodeState.BOOTING,
    # It exists, costs something, and will not join as it is.
    "stopping": NodeState.DOWN,
    "stopped": NodeState.DOWN,
    "failed": NodeState.DOWN,
    "unknown": NodeState.UNKNOWN,
}
"""The words for a machine's state. One that is gone is not listed."""

MACHINES_MAX = 10_000


def parse_machines_untrusted(output: bytes) -> tuple[Machine, ...]:
    """Read all lines.

    Raises:
        ProviderFailed: A line that cannot be read, or a name that comes twice.
    """
    try:
        text = output.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ProviderFailed(f"list printed something that is not UTF-8: {error}") from error
    machines: dict[str, Machine] = {}
    for number, line in _lines(text):
        machine = _machine(line, number)
        if machine.name in machines:
            raise ProviderFailed(
                f"list printed {machine.name} twice: destroy one of the two by hand, and let "
                "create refuse a name that exists"
            )
        machines[machine.name] = machine
        if len(machines) > MACHINES_MAX:
            raise ProviderFailed(f"list printed more than {MACHINES_MAX} machines")
    return tuple(machines.values())


def _lines(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.splitlines(), start=1):
        if (stripped := line.strip()) and not stripped.startswith("#"):
            yield number, stripped


def _machine(line: str, number: int) -> Machine:
    fields = _json(line, number) if line.startswith("{") else _words(line, number)
    name, state, age_s = fields.get("name"), fields.get("state", "running"), fields.get("age_s")
    if not isinstance(name, str) or not name or len(name) > 253 or not name.isprintable():
        raise ProviderFailed(f"list, line {number}: expected a machine's name, got {name!r:.80}")
    if not isinstance(state, str) or state not in STATES:
        known = ", ".join(STATES)
        raise ProviderFailed(f"list, line {number}: the state {state!r:.80} is none of {known}")
    if age_s is not None and not _is_age(age_s):
        raise ProviderFailed(f"list, line {number}: age_s {age_s!r:.80} is no number of seconds")
    return Machine(name=name, state=STATES[state], age_s=None if age_s is None else float(age_s))


def _is_age(value: Any) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and 0 <= value < 1e12
        and math.isfinite(value)
    )


def _json(line: str, number: int) -> dict[str, Any]:
    try:
        fields: dict[str, Any] = msgspec.json.decode(line, type=dict[str, Any])
    except (msgspec.DecodeError, ValueError) as error:
        raise ProviderFailed(f"list, line {number} is no JSON object: {error}") from error
    return fields


def _words(line: str, number: int) -> dict[str, Any]:
    words = line.split()
    if len(words) > 2:
        raise ProviderFailed(
            f"list, line {number}: expected `name state` or a JSON object, got {line!r:.80}"
        )
    return dict(zip(("name", "state"), words, strict=False))
