"""Envelopes: what is sealed opens once and for those with the key; everything else is dropped."""

from __future__ import annotations

import contextlib
import random
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256, Hash
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from gossip import keys, sealing
from gossip.config import DATAGRAM_BYTES_MAX
from gossip.errors import BadKey, BadPacket
from gossip.messages import Keys
from gossip.sealing import Envelope, PlainEnvelope, SealedEnvelope

OLD, NEW, OTHER = (letter * 32 for letter in (b"o", b"n", b"x"))
RING = keys.first(OLD)
EPOCH = 1_750_000_000
HEADER_BYTES = 24
BODY = b"a body of some length"


def sealed(
    uid: int = 1, epoch: int = EPOCH, salt: int = 7, *, ring: Keys = RING, label: str = "test"
) -> SealedEnvelope:
    return SealedEnvelope(label=label, keys=ring, uid=uid, epoch=epoch, salt=salt)


def plain(uid: int = 1, epoch: int = EPOCH, salt: int = 7, *, label: str = "test") -> PlainEnvelope:
    return PlainEnvelope(label=label, uid=uid, epoch=epoch, salt=salt)


def reason(envelope: Envelope, datagram: bytes) -> str:
    """Return why a datagram is dropped."""
    with pytest.raises(BadPacket) as caught:
        envelope.open_untrusted(datagram)
    return caught.value.reason


def _twin() -> bytes:
    """Return another key that has the old one's number."""
    others = (count.to_bytes(32, "big") for count in range(10_000))
    return next(other for other in others if keys.key_id(other) == keys.key_id(OLD))


KINDS = pytest.mark.parametrize("make", [sealed, plain])
Make = Callable[..., Any]  # both, with the same arguments


@KINDS
@given(body=st.binary(max_size=DATAGRAM_BYTES_MAX - sealed().overhead))
def test_what_is_sealed_opens(make: Make, body: bytes) -> None:
    """Every body that fits comes back, with who sent it, and is longer by what was said."""
    datagram = make(uid=1).seal(body)
    assert len(datagram) == len(body) + make().overhead
    opened = make(uid=2).open_untrusted(datagram)
    assert opened.body == body
    assert (opened.session.uid, opened.session.epoch, opened.session.salt) == (1, EPOCH, 7)
    assert not opened.session.verified


@KINDS
def test_one_datagram_serves_all_receivers(make: Make) -> None:
    """A heartbeat is sealed once and sent to everybody who watches."""
    datagram = make(uid=1).seal(BODY)
    for uid in (2, 3, 4):
        assert make(uid=uid).open_untrusted(datagram).body == BODY


@KINDS
def test_what_is_too_long_is_not_sealed(make: Make) -> None:
    """It would be dropped by everybody; so it is this peer's mistake."""
    room = DATAGRAM_BYTES_MAX - make().overhead
    assert len(make().seal(bytes(room))) == DATAGRAM_BYTES_MAX
    with pytest.raises(ValueError, match="does not fit"):
        make().seal(bytes(room + 1))


def test_the_seal_is_what_it_is_said_to_be() -> None:
    """AES-256-GCM under an HKDF-SHA256 key: computed here once more, from the description."""
    header = bytes.fromhex(f"11{keys.key_id(OLD):02x}00000000000000000001684ee1800000000700000001")
    digest = Hash(SHA256())
    digest.update(b"test")
    label_hash = digest.finalize()
    info = b"grapevine datagram 1" + header[4:20] + label_hash
    key = HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(OLD)
    nonce = bytes(8) + header[20:]
    expected = header + AESGCM(key).encrypt(nonce, BODY, header + label_hash)
    assert sealed(uid=1, epoch=0x684EE180, salt=7).seal(BODY) == expected


@pytest.mark.parametrize(
    ("make", "datagram"),
    [
        (
            sealed,
            "11d000000000000000000001684ee1800000000700000001e9671d7af3d50c53c33e79291c873264"
            "df6fbe3c1268bffe558673ac91f2af74fed3f3745b",
        ),
        (
            plain,
            "120000000000000000000001684ee18000000007000000019f86d081884c7d656120626f6479206f"
            "6620736f6d65206c656e677468",
        ),
    ],
)
def test_the_envelope_stays_as_it_is(make: Make, datagram: str) -> None:
    """What the first version sealed this one seals and opens, to the byte: another envelope would
    keep peers of two versions apart."""
    assert make().seal(BODY).hex() == datagram
    opened = make(uid=2).open_untrusted(bytes.fromhex(datagram))
    assert (opened.session.uid, opened.session.epoch, opened.body) == (1, EPOCH, BODY)


def test_nothing_of_the_body_can_be_read() -> None:
    """Beyond the header, and equal bodies look different."""
    envelope = sealed()
    one, two = envelope.seal(BODY), envelope.seal(BODY)
    assert BODY not in one
    assert one[HEADER_BYTES:] != two[HEADER_BYTES:]


# -- what is dropped ------------------------------------------------------------------------------


@KINDS
def test_too_short_and_too_long(make: Make) -> None:
    """Without a look inside."""
    envelope = make(uid=2)
    datagram = make(uid=1).seal(b"")
    assert envelope.open_untrusted(datagram).body == b""
    for length in range(len(datagram)):
        assert reason(envelope, datagram[:length]) == "short"
    assert reason(envelope, bytes(DATAGRAM_BYTES_MAX + 1)) == "oversize"
    assert reason(envelope, bytes(65_507)) == "oversize"


def test_every_truncation_is_dropped() -> None:
    """A datagram that lost its end authenticates no more."""
    envelope, datagram = sealed(uid=2), sealed(uid=1).seal(BODY)
    for length in range(envelope.overhead, len(datagram)):
        assert reason(envelope, datagram[:length]) == "forged"
    assert reason(envelope, datagram + b"\x00") == "forged"
    assert envelope.open_untrusted(datagram).body == BODY


def test_every_flipped_bit_is_noticed() -> None:
    """In the header, the body and the tag; and none of the attempts spoils the true datagram."""
    envelope, datagram = sealed(uid=2), sealed(uid=1).seal(BODY)
    reasons = {}
    for position in range(len(datagram)):
        for bit in range(8):
            changed = bytearray(datagram)
            changed[position] ^= 1 << bit
            reasons[position, bit] = reason(envelope, bytes(changed))
    assert {reasons[0, bit] for bit in range(8)} == {"version"}
    assert {reasons[1, bit] for bit in range(8)} == {"key"}
    assert {why for (position, _), why in reasons.items() if position > 1} == {"forged"}
    assert len(envelope.sessions) == 0
    assert envelope.open_untrusted(datagram).body == BODY


@pytest.mark.parametrize(
    ("sender", "why"),
    [
        (sealed(ring=keys.first(OTHER)), "key"),
        (sealed(label="another"), "forged"),
        (sealed(label=""), "forged"),
        (plain(), "plaintext"),
    ],
)
def test_strangers_are_dropped(sender: Envelope, why: str) -> None:
    """Another key, another label, or none."""
    envelope = sealed(uid=2)
    assert reason(envelope, sender.seal(BODY)) == why
    assert len(envelope.sessions) == 0


def test_another_key_of_the_same_number() -> None:
    """The number in the header is a hint, and proves nothing."""
    assert reason(sealed(uid=2), sealed(ring=keys.first(_twin())).seal(BODY)) == "forged"


def test_plain_takes_neither_sealed_ones_nor_other_labels() -> None:
    """Not even by mistake do a plain and a sealed peer understand each other."""
    envelope = plain(uid=2)
    assert reason(envelope, sealed().seal(BODY)) == "plaintext"
    assert reason(envelope, plain(label="another").seal(BODY)) == "forged"
    assert len(envelope.sessions) == 0


@KINDS
@pytest.mark.parametrize("first_byte", [0x00, 0x10, 0x13, 0x21, 0x22, 0xFF])
def test_other_versions_are_dropped(make: Make, first_byte: int) -> None:
    """A later version, another protocol's datagram: counted as such, not as an attack."""
    datagram = bytes([first_byte]) + make(uid=1).seal(BODY)[1:]
    assert reason(make(uid=2), datagram) == "version"


@KINDS
def test_own_datagrams_are_dropped_and_those_of_a_clone_are_not(make: Make) -> None:
    """What comes back from this very start is an echo; the same uid with another salt is a clone,
    which the caller must hear of."""
    envelope = make(uid=1, salt=7)
    assert reason(envelope, envelope.seal(BODY)) == "own"
    assert len(envelope.sessions) == 0
    for epoch, salt in ((EPOCH, 8), (EPOCH - 1, 7), (EPOCH + 1, 7)):
        session = envelope.open_untrusted(make(uid=1, epoch=epoch, salt=salt).seal(BODY)).session
        assert (session.uid, session.epoch, session.salt) == (1, epoch, salt)


# -- once, and in this life -----------------------------------------------------------------------


@KINDS
def test_a_datagram_opens_once(make: Make) -> None:
    """Its repetition, at any later time, is a replay."""
    sender, envelope = make(uid=1), make(uid=2)
    datagrams = [sender.seal(BODY) for _ in range(200)]
    for datagram in datagrams:
        assert envelope.open_untrusted(datagram).body == BODY
    assert {reason(envelope, datagram) for datagram in datagrams} == {"replay"}


@KINDS
@given(data=st.data())
def test_datagrams_may_overtake_each_other(make: Make, data: st.DataObject) -> None:
    """In any order within the window each opens, once; and all are of one session."""
    sender, envelope = make(uid=1), make(uid=2)
    datagrams = [sender.seal(b"%d" % number) for number in range(64)]
    order = data.draw(st.permutations(range(64)))
    opened = [envelope.open_untrusted(datagrams[number]) for number in order]
    assert [one.body for one in opened] == [b"%d" % number for number in order]
    assert len({id(one.session) for one in opened}) == 1
    assert {reason(envelope, datagram) for datagram in datagrams} == {"replay"}


@KINDS
def test_a_datagram_that_is_too_late_is_dropped(make: Make) -> None:
    """Beyond the window nobody remembers whether it was seen."""
    sender, envelope = make(uid=1), make(uid=2)
    datagrams = [sender.seal(BODY) for _ in range(66)]
    envelope.open_untrusted(datagrams[65])
    assert reason(envelope, datagrams[1]) == "replay"
    assert envelope.open_untrusted(datagrams[2]).body == BODY


@KINDS
def test_a_former_life_is_dropped_once_the_later_one_is_verified(make: Make) -> None:
    """Recordings from before a restart do nothing after it."""
    former, later, envelope = make(epoch=EPOCH), make(epoch=EPOCH + 1, salt=9), make(uid=2)
    before = envelope.open_untrusted(former.seal(BODY)).session
    before.verified = True
    now = envelope.open_untrusted(later.seal(BODY)).session
    assert now is not before
    assert envelope.open_untrusted(former.seal(BODY)).session is before
    now.verified = True
    assert reason(envelope, former.seal(BODY)) == "replay"
    assert reason(envelope, make(epoch=EPOCH - 1).seal(BODY)) == "replay"
    assert envelope.open_untrusted(later.seal(BODY)).session is now
    assert list(envelope.sessions) == [now]


def test_recordings_replayed_to_a_newcomer_are_of_an_unverified_session() -> None:
    """They are authentic, and come for the first time: that is why a session must prove itself."""
    sender = sealed(uid=1)
    recordings = [sender.seal(BODY) for _ in range(10)]
    newcomer = sealed(uid=3)
    for recording in recordings:
        assert not newcomer.open_untrusted(recording).session.verified


# -- nonces ---------------------------------------------------------------------------------------


def test_a_nonce_never_comes_twice_under_one_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Through new identities, rotations there and back, and the end of the counter."""
    monkeypatch.setattr(sealing, "COUNTER_MAX", 10)
    both = keys.install(RING, NEW, 1)
    envelope, receiver = sealed(ring=both), sealed(uid=2, ring=both)
    used = set()
    for turn in range(60):
        datagram = envelope.seal(BODY)
        used.add(datagram[1:2] + datagram[4:24])
        assert receiver.open_untrusted(datagram).body == BODY
        if turn % 3 == 0:
            other = next(number for number, _ in both.keys if number != envelope.keys.primary)
            envelope.rekey(keys.use(envelope.keys, other, 1))
        if turn % 13 == 0:
            envelope.renew(5 + turn, EPOCH, 1000 * turn)
    assert len(used) == 60


@KINDS
def test_the_same_identity_is_not_taken_again(make: Make) -> None:
    """A renewal without another salt, epoch or uid would begin the counter anew."""
    envelope = make()
    with pytest.raises(ValueError, match="draw another salt"):
        envelope.renew(1, EPOCH, 7)
    envelope.renew(1, EPOCH, 8)
    assert envelope.salt == 8
    session = make(uid=2).open_untrusted(envelope.seal(BODY)).session
    assert (session.uid, session.epoch, session.salt) == (1, EPOCH, 8)


@KINDS
def test_a_renewed_peer_hears_its_former_self_as_another(make: Make) -> None:
    """After it has given its uid up, whoever still uses that is a peer like others."""
    envelope = make(uid=1)
    former = envelope.seal(BODY)
    envelope.renew(99, EPOCH, 8)
    assert envelope.open_untrusted(former).session.uid == 1
    assert reason(envelope, envelope.seal(BODY)) == "own"


# -- rotation -------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["install", "use", "remove"])
def test_a_rotation_without_a_gap(step: str) -> None:
    """In each step, while one peer is ahead of the other, both understand each other, and what was
    under way opens, too. A key is removed after all have used the new one."""
    installed = keys.install(RING, NEW, 1)
    used = keys.use(installed, keys.key_id(NEW), 1)
    removed = keys.remove(used, keys.key_id(OLD), 1)
    before, after = {
        "install": (RING, installed),
        "use": (installed, used),
        "remove": (used, removed),
    }[step]
    ahead, behind = sealed(uid=1, ring=before), sealed(uid=2, ring=before)
    to_behind, to_ahead = ahead.seal(b"1"), behind.seal(b"2")
    ahead.rekey(after)
    assert ahead.open_untrusted(to_ahead).body == b"2"
    assert behind.open_untrusted(to_behind).body == b"1"
    to_behind, to_ahead = ahead.seal(b"3"), behind.seal(b"4")
    behind.rekey(after)
    assert ahead.open_untrusted(to_ahead).body == b"4"
    assert behind.open_untrusted(to_behind).body == b"3"


def test_a_removed_key_opens_nothing_at_once() -> None:
    """Also where a cipher for the session was at hand, and however much of it was heard."""
    both = keys.install(RING, NEW, 1)
    sender, envelope = sealed(uid=1), sealed(uid=2, ring=both)
    session = envelope.open_untrusted(sender.seal(BODY)).session
    session.verified = True
    envelope.rekey(keys.remove(keys.use(both, keys.key_id(NEW), 1), keys.key_id(OLD), 1))
    assert reason(envelope, sender.seal(BODY)) == "key"
    assert session.cipher is None
    sender.rekey(envelope.keys)
    assert envelope.open_untrusted(sender.seal(BODY)).session is session


def test_a_removed_key_is_gone_even_if_its_number_is_not() -> None:
    """A ring from elsewhere may have another key in the place of the one that is cached."""
    twin = _twin()
    sender, envelope = sealed(uid=1), sealed(uid=2)
    session = envelope.open_untrusted(sender.seal(BODY)).session
    envelope.rekey(keys.first(twin))
    assert reason(envelope, sender.seal(BODY)) == "forged"
    sender.rekey(keys.first(twin))
    assert envelope.open_untrusted(sender.seal(BODY)).session is session


def test_a_key_for_one_who_lacks_the_primary() -> None:
    """A new ring reaches a peer that has the old one, sealed with a key that both have."""
    ring = keys.use(keys.install(RING, NEW, 1), keys.key_id(NEW), 1)
    ahead, behind = sealed(uid=1, ring=ring), sealed(uid=2)
    assert reason(behind, ahead.seal(BODY)) == "key"
    session = ahead.open_untrusted(behind.seal(BODY)).session
    assert session.key_id == keys.key_id(OLD)
    assert behind.open_untrusted(ahead.seal(BODY, session.key_id)).body == BODY


def test_a_key_that_is_gone_is_replaced_by_the_primary() -> None:
    """What was asked for by a number that has been removed meanwhile is sealed all the same."""
    sender = sealed(uid=1)
    for key_id in (0, keys.key_id(NEW)):
        assert sealed(uid=2).open_untrusted(sender.seal(BODY, key_id)).body == BODY


def test_a_plain_peer_has_no_keys() -> None:
    """And says so, rather than to pretend to seal."""
    envelope = plain()
    assert envelope.keys is None
    with pytest.raises(BadKey, match="started to talk in plain text"):
        envelope.rekey(RING)
    assert plain(uid=2).open_untrusted(envelope.seal(BODY, 3)).session.key_id == 0


def test_a_ring_that_is_none_is_refused() -> None:
    """Before anything is changed."""
    envelope = sealed()
    with pytest.raises(BadKey, match="no key 1 in the ring"):
        envelope.rekey(Keys(version=9, origin=1, primary=1, keys=RING.keys))
    assert envelope.keys == RING
    assert sealed(uid=2).open_untrusted(envelope.seal(BODY)).body == BODY


# -- floods ---------------------------------------------------------------------------------------


def _noise(rng: random.Random, genuine: bytes) -> bytes:
    """Make one hostile datagram: chance, a header with chance behind it, or a genuine one bent."""
    kind = rng.randrange(3)
    if kind == 0:
        return rng.randbytes(rng.randrange(1300))
    if kind == 1:
        return genuine[:2] + rng.randbytes(rng.randrange(38, 200))
    bent = bytearray(genuine)
    bent[rng.randrange(len(bent))] ^= rng.randrange(1, 256)
    return bytes(bent)


def test_a_flood_leaves_nothing_behind() -> None:
    """Twenty thousand hostile datagrams, many in the name of a live peer: no session is added or
    changed, nothing grows, and the peer is heard as before."""
    rng = random.Random(1)
    sender, envelope = sealed(uid=1), sealed(uid=2)
    session = envelope.open_untrusted(sender.seal(BODY)).session
    session.verified = True
    cipher = session.cipher
    under_way = sender.seal(BODY)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        opened = 0
        for _ in range(20_000):
            with contextlib.suppress(BadPacket):
                envelope.open_untrusted(_noise(rng, under_way))
                opened += 1
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert opened == 0
    assert list(envelope.sessions) == [session]
    assert session.cipher is cipher
    assert after - before < 20_000
    assert peak - before < 200_000
    assert envelope.open_untrusted(under_way).session is session


@given(st.binary(max_size=1300))
def test_random_bytes_are_dropped(datagram: bytes) -> None:
    """By either kind, with `BadPacket` and nothing else."""
    for envelope in (sealed(uid=2), plain(uid=2)):
        with pytest.raises(BadPacket):
            envelope.open_untrusted(datagram)


@given(st.binary(min_size=38, max_size=300))
def test_random_bytes_behind_a_right_beginning(rest: bytes) -> None:
    """What looks like a datagram so far is dropped, or, in plain text, of an unverified session."""
    with contextlib.suppress(BadPacket):
        opened = plain(uid=2).open_untrusted(b"\x12\x00" + rest)
        assert not opened.session.verified
    with pytest.raises(BadPacket):
        sealed(uid=2).open_untrusted(bytes([0x11, keys.key_id(OLD)]) + rest)
