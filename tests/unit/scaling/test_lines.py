"""What the user's `list` command may print."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling.ports import Machine, ProviderFailed
from scaling.providers.lines import parse_machines_untrusted
from scaling.snapshot import NodeState

GOOD: list[tuple[str, list[Machine]]] = [
    ("", []),
    ("\n  \n# a heading\n", []),
    ("a", [Machine(name="a", state=NodeState.BOOTING)]),
    ("a running\n", [Machine(name="a", state=NodeState.BOOTING)]),
    ("  a\tstopped \r\n", [Machine(name="a", state=NodeState.DOWN)]),
    ('{"name": "a"}', [Machine(name="a", state=NodeState.BOOTING)]),
    (
        '{"name": "a", "state": "booting", "age_s": 3, "region": "x"}\nb failed\nc unknown',
        [
            Machine(name="a", state=NodeState.BOOTING, age_s=3.0),
            Machine(name="b", state=NodeState.DOWN),
            Machine(name="c", state=NodeState.UNKNOWN),
        ],
    ),
]

BAD = [
    ("a b c", "expected `name state`"),
    ("a asleep", "state 'asleep' is none of booting"),
    ('{"name": "a"', "no JSON object"),
    ('{"state": "running"}', "expected a machine's name, got None"),
    ('{"name": 3}', "expected a machine's name"),
    ('{"name": "a", "state": 1}', "the state 1 is none of"),
    ('{"name": "a", "age_s": "old"}', "age_s 'old' is no number"),
    ('{"name": "a", "age_s": true}', "age_s True is no number"),
    ('{"name": "a", "age_s": -1}', "age_s -1 is no number"),
    ("a\nb\na", "printed a twice"),
]


@pytest.mark.parametrize(("text", "machines"), GOOD)
def test_lines_are_read(text: str, machines: list[Machine]) -> None:
    """Words and JSON, mixed; empty lines and comments are nothing."""
    assert list(parse_machines_untrusted(text.encode())) == machines


@pytest.mark.parametrize(("text", "complaint"), BAD)
def test_what_cannot_be_read_is_said(text: str, complaint: str) -> None:
    """Each mistake has its sentence."""
    with pytest.raises(ProviderFailed, match=complaint):
        parse_machines_untrusted(text.encode())


@given(st.one_of(st.binary(), st.text().map(lambda text: ("{" + text + "}").encode())))
def test_nothing_else_is_ever_raised(output: bytes) -> None:
    """Whatever a command prints, it is read or it is a `ProviderFailed`, with unique names."""
    try:
        machines = parse_machines_untrusted(output)
    except ProviderFailed:
        return
    assert len({machine.name for machine in machines}) == len(machines)
