"""What goes into columns: anything that people and ffmpeg say, made fit to be stored."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import Stage
from pipeline.events import Record, Stamp
from pipeline.ledger.rows import event_values, from_json, text, to_json
from pipeline.tasks import Failure, Progress, RenditionProgress

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()), inner),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """An event of no folder."""

    kind: ClassVar[str] = "Said"
    task_id: UUID
    part: int = 3
    what: str
    more: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Bare:
    """An event that belongs to no task."""

    kind: ClassVar[str] = "Bare"
    count: int


STAMP = Stamp(
    peer_uid="00",
    epoch=1,
    sequence=2,
    container="c\0",
    node="n",
    at=datetime(2026, 1, 1, tzinfo=UTC),
)


@pytest.mark.parametrize(
    ("given_text", "stored"),
    [
        ("plain", "plain"),
        ("Grüße 🎬", "Grüße 🎬"),
        ("a\0b", "a\N{REPLACEMENT CHARACTER}b"),
        ("name\udcff.mp4", "name?.mp4"),
        ("", ""),
    ],
)
def test_text_that_cannot_be_stored_is_replaced(given_text: str, stored: str) -> None:
    """What a column can hold stays as it is, and the rest is seen to have been there."""
    assert text(given_text) == stored


@given(anything)
def test_json_is_always_storable(value: Any) -> None:
    """Whatever is said about a file: strict JSON comes out, without NUL and half surrogates."""
    encoded = to_json(value)
    encoded.encode()
    assert "\\u0000" not in encoded
    json.loads(encoded, parse_constant=pytest.fail)


@pytest.mark.parametrize(
    "value",
    [
        Failure(stage=Stage.PUSH, code="disk_full", message="No space.", log_tail="a\nb"),
        Progress(step="pull", fraction=0.0),
        Progress(
            step="transcode",
            fraction=1.0,
            frames=3,
            frames_total=4,
            speed=1.5,
            eta_s=0.1,
            renditions=(RenditionProgress(name="720p", fraction=1.0, step="encode"),),
        ),
    ],
)
def test_values_survive_the_column(value: Failure | Progress) -> None:
    """What is written is read again, equal, through jsonb's own JSON."""
    assert from_json(json.loads(to_json(value)), type(value)) == value
    assert from_json(None, type(value)) is None


def test_an_event_becomes_a_row() -> None:
    """Its task and part are columns, everything else is its data, and the envelope is the rest."""
    event = Said(task_id=UUID(int=5), what="x", more={"path": Path("/a"), "id": UUID(int=6)})
    values = event_values(Record(stamp=STAMP, event=event))
    assert json.loads(values.pop("data")) == {
        "what": "x",
        "more": {"path": "/a", "id": str(UUID(int=6))},
    }
    assert values == {
        "at": STAMP.at,
        "type": "Said",
        "task_id": UUID(int=5),
        "part": 3,
        "peer_uid": "00",
        "epoch": 1,
        "sequence": 2,
        "container": "c\N{REPLACEMENT CHARACTER}",
        "node": "n",
    }


def test_an_event_of_no_task() -> None:
    """It has no task and no part."""
    values = event_values(Record(stamp=STAMP, event=Bare(7)))
    assert (values["task_id"], values["part"], values["data"]) == (None, None, '{"count": 7}')
