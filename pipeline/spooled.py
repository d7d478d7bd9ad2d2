"""An event that waits for the ledger, and its form in a spool: values, both ways."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from pipeline.events import Record, Recordable, Stamp
from pipeline.tasks import STEP_EVENTS, Claim

Entry = Mapping[str, Any]
"""One entry of a spool, in JSON's types."""

Decode = Callable[[str, Mapping[str, Any]], Recordable]
"""Makes an event of its kind and its fields in JSON's types. `KeyError`, `TypeError` or
`ValueError` mean that it cannot be made: another version wrote it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spooled:
    """An event that the ledger has not got yet; with a claim it is a step of it."""

    record: Record
    claim: Claim | None = None


def to_entry(spooled: Spooled) -> Entry:
    """Describe it in JSON's types."""
    event = spooled.record.event
    entry = {
        "kind": event.kind,
        "event": event,
        "stamp": spooled.record.stamp,
        "claim": spooled.claim and replace(spooled.claim, task=None),
    }
    plain: Entry = msgspec.to_builtins(entry, enc_hook=str, str_keys=True)
    return plain


def from_entries(entries: Iterable[Entry], decode: Decode) -> tuple[list[Spooled], list[Entry]]:
    """Read what `to_entry` wrote, and hand back the entries that cannot be read.

    A claim cannot jump over a step; so with one of its steps those after it are lost too.
    """
    spooled: list[Spooled] = []
    unreadable: list[Entry] = []
    with_a_hole: set[str] = set()
    for entry in entries:
        token = _token(entry)
        if token not in with_a_hole:
            try:
                spooled.append(_from_entry(entry, decode))
                continue
            except (KeyError, TypeError, ValueError):
                pass
        unreadable.append(entry)
        with_a_hole |= {token} - {""}
    return spooled, unreadable


def _token(entry: Entry) -> str:
    claim = entry.get("claim")
    return str(claim.get("token")) if isinstance(claim, dict) else ""


def _from_entry(entry: Entry, decode: Decode) -> Spooled:
    kind, claim = entry["kind"], entry["claim"]
    if claim is not None and kind not in STEP_EVENTS.values():
        raise ValueError(f"{kind} is no step")
    stamp = msgspec.convert(entry["stamp"], Stamp)
    return Spooled(
        record=Record(stamp=stamp, event=decode(kind, entry["event"])),
        claim=None if claim is None else msgspec.convert(claim, Claim),
    )
