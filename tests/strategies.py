"""What Hypothesis draws in more than one test: addresses, rows, key rings, and every message.

All values are such that they come back from the wire as they went: times in tenths of a second,
addresses in their canonical form, key rings that are some.
"""

from __future__ import annotations

from hypothesis import strategies as st

from gossip import keys, messages
from gossip.addresses import canonical
from gossip.config import BUCKETS
from gossip.load_table import RECORD_BYTES
from gossip.messages import Keys, Message
from gossip.rows import (
    INCARNATION_MAX,
    TEXT_BYTES_MAX,
    Address,
    AgedRow,
    Body,
    Row,
    State,
    fit_text,
)

LARGEST_16, LARGEST_32, LARGEST_64 = 2**16 - 1, 2**32 - 1, 2**64 - 1

uids = st.integers(0, LARGEST_64)
nonces = st.integers(0, LARGEST_64)
epochs = st.integers(0, LARGEST_32)
incarnations = st.integers(0, 5) | st.integers(0, INCARNATION_MAX)
times_s = st.integers(0, LARGEST_16).map(lambda tenths: tenths / 10)
texts = st.text(max_size=TEXT_BYTES_MAX).map(fit_text)


hosts = st.builds(str, st.ip_addresses()).filter(lambda host: canonical(host) == host)
addresses: st.SearchStrategy[Address] = st.tuples(hosts, st.integers(1, LARGEST_16))

bodies = st.builds(
    Body,
    address=addresses,
    name=texts,
    node=texts,
    container=texts,
    version=texts,
    eligible=st.booleans(),
    priority=st.integers(0, LARGEST_16),
    encoders=st.integers(0, LARGEST_32),
    keys=st.integers(0, LARGEST_32),
    parked=st.booleans(),
)
rows = st.builds(Row, uids, epochs, incarnations, st.sampled_from(State), bodies)
aged_rows = st.builds(AgedRow, rows, times_s)
some_rows = st.lists(aged_rows, max_size=3).map(tuple)
load_blobs = st.integers(0, 20).flatmap(
    lambda count: st.binary(min_size=count * RECORD_BYTES, max_size=count * RECORD_BYTES)
)
materials = st.binary(min_size=keys.KEY_BYTES, max_size=keys.KEY_BYTES)


@st.composite
def key_rings(draw: st.DrawFn) -> Keys:
    """Draw a ring of one to eight keys."""
    drawn = draw(st.lists(materials, min_size=1, max_size=keys.KEYS_MAX, unique_by=keys.key_id))
    return Keys(
        version=draw(st.integers(0, LARGEST_32)),
        origin=draw(uids),
        primary=keys.key_id(draw(st.sampled_from(drawn))),
        keys=tuple((keys.key_id(material), material) for material in drawn),
    )


_places = st.tuples(st.integers(0, BUCKETS - 1), uids)

# One for each kind of message, by its name.
MESSAGES: dict[str, st.SearchStrategy[Message]] = {
    "Heartbeat": st.builds(
        messages.Heartbeat,
        sequence=st.integers(0, LARGEST_32),
        incarnation=incarnations,
        tardiness=st.integers(0, 7),
        grace_s=times_s,
        loads=load_blobs,
        rows=some_rows,
    ),
    "Gossip": st.builds(messages.Gossip, rows=some_rows, loads=load_blobs),
    "Watch": st.builds(messages.Watch, nonce=nonces, lease_s=times_s),
    "WatchOk": st.builds(
        messages.WatchOk,
        nonce=nonces,
        lease_s=times_s,
        observers=st.lists(uids, max_size=16).map(tuple),
    ),
    "Ping": st.builds(
        messages.Ping,
        nonce=nonces,
        uid=uids,
        epoch=epochs,
        incarnation=incarnations,
        state=st.sampled_from(State),
    ),
    "Ack": st.builds(messages.Ack, nonce=nonces, uid=uids, epoch=epochs, rows=some_rows),
    "PingRequest": st.builds(
        messages.PingRequest, nonce=nonces, uid=uids, epoch=epochs, address=addresses
    ),
    "Alert": st.builds(
        messages.Alert, uid=uids, epoch=epochs, incarnation=incarnations, silent_s=times_s
    ),
    "AlertOk": st.builds(messages.AlertOk, uid=uids, epoch=epochs, silent=st.booleans()),
    "Digest": st.builds(
        messages.Digest,
        count=st.integers(0, LARGEST_32),
        hashes=st.lists(st.integers(0, LARGEST_32), min_size=BUCKETS, max_size=BUCKETS).map(tuple),
    ),
    "Page": st.builds(
        messages.Page,
        buckets=st.integers(0, LARGEST_64),
        first=_places,
        last=_places,
        answer=st.booleans(),
        rows=some_rows,
    ),
    "Join": st.builds(messages.Join, nonce=nonces, rows=some_rows),
    "JoinOk": st.builds(
        messages.JoinOk,
        nonce=nonces,
        challenge=nonces,
        observed=addresses,
        count=st.integers(0, LARGEST_32),
        rows=some_rows,
    ),
    "Keys": key_rings(),
    "Order": st.builds(
        messages.Order,
        nonce=nonces,
        uid=uids,
        epoch=epochs,
        verb=st.sampled_from(messages.Verb),
    ),
    "OrderOk": st.builds(messages.OrderOk, nonce=nonces),
}

any_message = st.one_of(*MESSAGES.values())
