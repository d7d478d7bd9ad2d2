"""The envelope of every event: whose, and which."""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import msgspec
import pytest

from membership.events import ContainerFailureDetected
from peer.events import EVENT_TYPES, EventStamper, decode_event
from peer.identity import Identity
from pipeline.events import Recordable

TASK_ID = UUID("3f2a1b2c-0000-4000-8000-000000000001")

EVENT = ContainerFailureDetected(
    failed_uid="00000000000000aa",
    failed_name="two",
    failed_epoch=1,
    failed_container="pid:1",
    failed_node="here",
    silent_s=6.0,
    witnesses=2,
)


def test_a_new_identity_goes_on_counting() -> None:
    """What is stamped after a copied identity was given up never has a number that was used."""
    stamp = EventStamper(Identity(uid="a" * 16, epoch=7), container="pid:1", node="here")
    before = [stamp(EVENT).stamp for _ in range(2)]
    stamp.go_on_as(Identity(uid="b" * 16, epoch=7))
    after = stamp(EVENT).stamp
    assert [(one.peer_uid, one.epoch, one.sequence) for one in [*before, after]] == [
        ("a" * 16, 7, 1),
        ("a" * 16, 7, 2),
        ("b" * 16, 7, 3),
    ]


def test_what_was_stamped_is_counted() -> None:
    """By the events' names, for the metrics."""
    stamp = EventStamper(Identity(uid="a" * 16, epoch=7), container="pid:1", node="here")
    stamp(EVENT)
    stamp(EVENT)
    assert stamp.stamped == {"ContainerFailureDetected": 2}


SAMPLES: Mapping[Any, Any] = {str: "text", int: 3, float: 2.5, bool: True, UUID: TASK_ID}


def sample(event: type[Recordable]) -> Recordable:
    """An event of that type, every field of it filled in."""
    hints = typing.get_type_hints(event)
    values: dict[str, Any] = {}
    for field in dataclasses.fields(event):  # type: ignore[arg-type]  # Recordable promises one
        hint = hints[field.name]
        if typing.get_origin(hint) is tuple:
            (inside, *_) = typing.get_args(hint)
            values[field.name] = (SAMPLES.get(inside, {"attempt": 1}),)
        else:
            values[field.name] = SAMPLES.get(hint, {"width": 1})
    return event(**values)


@pytest.mark.parametrize("event", EVENT_TYPES, ids=lambda event: event.kind)
def test_every_event_comes_back_from_disk(event: type[Recordable]) -> None:
    """Written as JSON while the ledger is away, each is the same when it is read again."""
    before = sample(event)
    written = json.loads(json.dumps(msgspec.to_builtins(before)))
    assert decode_event(event.kind, written) == before


def test_what_is_no_event_is_not_made_one() -> None:
    """A name that nobody knows, and fields that are another event's."""
    with pytest.raises(KeyError):
        decode_event("TaskForgotten", {})
    with pytest.raises(ValueError, match="task_id"):
        decode_event("TaskReceived", {"attempt": 1})
