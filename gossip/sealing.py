"""The envelope around every datagram: who sent it, in which life, and that nobody else could have.

    offset  0        1       2      4    8 … 16     20       24
            version  key id  flags  uid  epoch salt counter  body, sealed or not

Sealed with AES-256-GCM under a key that is derived, by HKDF-SHA256, from the cluster's key and from
who sends: its uid, its epoch and 32 random bits of this start. So each start of each peer has a key
of its own, and the datagram's counter is a nonce that cannot repeat: not for a cloned uid, not
after a restart, not when the ring goes back to a former key, since the counter never goes back
within a start. The header and a hash of the cluster's label are authenticated along with the body;
whoever has another key or another label cannot be told from noise.

The same bytes may go to many receivers. They say who sent them, not to whom; what must not be
obeyed twice, or by somebody else, carries a nonce or a uid in the message.

Rejected: random 96-bit nonces, which wear a key out and cost twelve bytes; DTLS and WireGuard,
which keep a handshake per pair; a signature per datagram, twenty times the time.
"""

from __future__ import annotations

import hashlib
import struct
from typing import NamedTuple, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from gossip.config import DATAGRAM_BYTES_MAX
from gossip.errors import BadKey, BadPacket
from gossip.keys import checked
from gossip.messages import Keys
from gossip.sessions import Session, Sessions

__all__ = [
    "Envelope",
    "FormerLife",
    "Opened",
    "PlainEnvelope",
    "SealedEnvelope",
    "Session",
    "Sessions",
]

VERSION = 1
COUNTER_MAX = 2**32 - 1

_SEALED = VERSION << 4 | 1
_PLAIN = VERSION << 4 | 2
_FLAGS = 0  # for later versions; authenticated, and otherwise ignored

_HEADER = struct.Struct("!BBHQIII")
_IDENTITY = struct.Struct("!QII")
_IDENTITY_AT = slice(4, 20)
_COUNTER_AT = slice(20, 24)
_TAG_BYTES = 16
_MARK_BYTES = 8  # of the label's hash, where nothing is sealed
_NONCE_PADDING = bytes(8)
_PURPOSE = b"grapevine datagram 1"


class Opened(NamedTuple):
    """What was in a datagram, and of whom it is."""

    session: Session
    body: bytes


class FormerLife(BadPacket):
    """Authentic, but of a life that is over: a later one of the same uid has proved to be live.

    A recording; or a machine whose disk was copied, and that should be told.

    Attributes:
        session: Of that life; not kept.
    """

    def __init__(self, session: Session) -> None:
        super().__init__("replay", f"a former life of {session.uid:016x}")
        self.session = session


class Envelope(Protocol):
    """Seals and opens datagrams for one (uid, epoch, salt). Pure but for what it remembers."""

    overhead: int
    """Bytes that are added to a body."""

    def seal(self, body: bytes, key_id: int | None = None) -> bytes:
        """Return a datagram. The same bytes may be sent to many, and never be made twice.

        Args:
            key_id: Of the key to seal with if it is in the ring: for one who lacks the primary,
                which is what is used otherwise.

        Raises:
            ValueError: The body is too long for a datagram.
        """
        ...

    def open_untrusted(self, datagram: bytes) -> Opened:
        """Return what was sealed. Own datagrams of another salt are returned, too: clones.

        Raises:
            BadPacket: It is not for this peer, or not for the first time; nothing else is raised.
            FormerLife: A `BadPacket`, too: its sender has started again since.
        """
        ...

    def rekey(self, keys: Keys) -> None:
        """Take another ring; what is not in it opens nothing from now on.

        Raises:
            BadKey: It is no ring, or nothing is sealed here.
        """
        ...

    def renew(self, uid: int, epoch: int, salt: int) -> None:
        """Go on under another identity, with another random salt.

        Raises:
            ValueError: It is the same: its nonces would come again.
        """
        ...

    @property
    def salt(self) -> int:
        """This start's."""
        ...

    @property
    def keys(self) -> Keys | None:
        """The ring; None: nothing is sealed."""
        ...


class _Framing:
    """What both envelopes do alike: the header, this peer's identity, the others' sessions.

    Attributes:
        sessions: Of which something authentic has come.
    """

    overhead: int
    _first_byte: int

    def __init__(self, *, label: str, uid: int, epoch: int, salt: int) -> None:
        self.sessions = Sessions()
        self._label_hash = hashlib.sha256(label.encode()).digest()
        self._take(uid, epoch, salt)

    @property
    def salt(self) -> int:
        """This start's."""
        return self._salt

    def renew(self, uid: int, epoch: int, salt: int) -> None:
        """Go on under another identity; see `Envelope`."""
        if (uid, epoch, salt) == (self._uid, self._epoch, self._salt):
            raise ValueError("the same identity again: draw another salt")
        self._take(uid, epoch, salt)

    def _take(self, uid: int, epoch: int, salt: int) -> None:
        self._uid, self._epoch, self._salt = uid, epoch, salt
        self._identity = _IDENTITY.pack(uid, epoch, salt)
        self._counter = 0

    def _next_header(self, body: bytes, key_id: int) -> bytes:
        if len(body) + self.overhead > DATAGRAM_BYTES_MAX:
            raise ValueError(f"a body of {len(body)} bytes does not fit into a datagram")
        if self._counter == COUNTER_MAX:
            # After more than a year at the budget's rate. A salt that is another one is all that
            # the next key needs; to the others it is a new session.
            self.renew(self._uid, self._epoch, (self._salt + 1) % 2**32)
        self._counter += 1
        return _HEADER.pack(
            self._first_byte, key_id, _FLAGS, self._uid, self._epoch, self._salt, self._counter
        )

    def _session_untrusted(self, datagram: bytes) -> tuple[bytes, Session, int, int]:
        """Return the identity, the session, perhaps one not kept yet, the key's id, the counter."""
        size = len(datagram)
        if size < self.overhead:
            raise BadPacket("short", f"{size} bytes")
        if size > DATAGRAM_BYTES_MAX:
            raise BadPacket("oversize", f"{size} bytes")
        first_byte, key_id, _, uid, epoch, salt, counter = _HEADER.unpack_from(datagram)
        if first_byte != self._first_byte:
            raise _of_another_kind(first_byte)
        identity = datagram[_IDENTITY_AT]
        session = self.sessions.get(identity)
        if session is None:
            session = Session(uid, epoch, salt)
        if not session.is_new(counter):
            raise BadPacket("replay", f"datagram {counter} of {uid:016x}")
        return identity, session, key_id, counter

    def _opened(self, identity: bytes, session: Session, counter: int, body: bytes) -> Opened:
        """Keep the session: what came is authentic."""
        if identity == self._identity:
            raise BadPacket("own")
        if self.sessions.is_over(session.uid, session.epoch):
            raise FormerLife(session)
        session.note(counter)
        self.sessions.heard(identity, session)
        return Opened(session, body)


class SealedEnvelope(_Framing):
    """Seals with the ring's primary key, and opens with any key in the ring.

    Args:
        label: The cluster's name: others with the same key and another label stay apart.
        salt: 32 random bits, drawn for this start.

    Raises:
        BadKey: The ring is none.
    """

    overhead = _HEADER.size + _TAG_BYTES
    _first_byte = _SEALED

    def __init__(self, *, label: str, keys: Keys, uid: int, epoch: int, salt: int) -> None:
        self._materials: dict[int, bytes] = {}
        self._own_ciphers: dict[int, AESGCM] = {}
        super().__init__(label=label, uid=uid, epoch=epoch, salt=salt)
        self.rekey(keys)

    @property
    def keys(self) -> Keys:
        """The ring that seals and opens."""
        return self._keys

    def rekey(self, keys: Keys) -> None:
        """Take another ring; ciphers of keys that are not in it any more go at once."""
        former = self._materials
        self._keys = checked(keys)
        self._materials = dict(keys.keys)
        self._own_ciphers.clear()
        for session in self.sessions:
            # By the key, not by its number, which another key may have now.
            if former.get(session.key_id) != self._materials.get(session.key_id):
                session.key_id, session.cipher = 0, None

    def seal(self, body: bytes, key_id: int | None = None) -> bytes:
        """Return a sealed datagram; see `Envelope`."""
        if key_id is None or key_id not in self._materials:
            key_id = self._keys.primary
        header = self._next_header(body, key_id)
        cipher = self._own_ciphers.get(key_id)
        if cipher is None:
            cipher = self._own_ciphers[key_id] = self._derive(key_id, self._identity)
        return header + cipher.encrypt(
            _NONCE_PADDING + header[_COUNTER_AT], body, header + self._label_hash
        )

    def open_untrusted(self, datagram: bytes) -> Opened:
        """Return what is authentic and has come for the first time; see `Envelope`."""
        identity, session, key_id, counter = self._session_untrusted(datagram)
        cipher = session.cipher
        if cipher is None or session.key_id != key_id:
            if key_id not in self._materials:
                raise BadPacket("key", f"key {key_id}")
            cipher = self._derive(key_id, identity)
        header = datagram[: _HEADER.size]
        try:
            body = cipher.decrypt(
                _NONCE_PADDING + header[_COUNTER_AT],
                datagram[_HEADER.size :],
                header + self._label_hash,
            )
        except InvalidTag:
            raise BadPacket("forged", f"in the name of {session.uid:016x}") from None
        # Not before: a forged header must not make the session's cipher be derived again.
        session.key_id, session.cipher = key_id, cipher
        return self._opened(identity, session, counter, body)

    def _take(self, uid: int, epoch: int, salt: int) -> None:
        super()._take(uid, epoch, salt)
        self._own_ciphers.clear()

    def _derive(self, key_id: int, identity: bytes) -> AESGCM:
        info = _PURPOSE + identity + self._label_hash
        derivation = HKDF(algorithm=SHA256(), length=32, salt=None, info=info)
        return AESGCM(derivation.derive(self._materials[key_id]))


class PlainEnvelope(_Framing):
    """Seals nothing: for loopback when asked for, and for simulations of thousands of peers.

    The same header and the same sessions; in the place of a tag there is a piece of the label's
    hash, against clusters that meet by mistake. It proves nothing.
    """

    overhead = _HEADER.size + _MARK_BYTES
    _first_byte = _PLAIN

    def __init__(self, *, label: str, uid: int, epoch: int, salt: int) -> None:
        super().__init__(label=label, uid=uid, epoch=epoch, salt=salt)
        self._mark = self._label_hash[:_MARK_BYTES]

    @property
    def keys(self) -> None:
        """None: there is no ring."""
        return None

    def rekey(self, keys: Keys) -> None:
        """Refuse: there is nothing that a key could be used for."""
        raise BadKey(
            f"key {keys.primary} is of no use: this peer was started to talk in plain text"
        )

    def seal(self, body: bytes, key_id: int | None = None) -> bytes:
        """Return the body with a header before it; see `Envelope`."""
        return self._next_header(body, 0) + self._mark + body

    def open_untrusted(self, datagram: bytes) -> Opened:
        """Return what has come for the first time; see `Envelope`."""
        identity, session, _, counter = self._session_untrusted(datagram)
        if datagram[_HEADER.size : self.overhead] != self._mark:
            raise BadPacket("forged", "another label")
        return self._opened(identity, session, counter, datagram[self.overhead :])


def _of_another_kind(first_byte: int) -> BadPacket:
    if first_byte in (_SEALED, _PLAIN):
        return BadPacket("plaintext", "sealed" if first_byte == _SEALED else "in plain text")
    return BadPacket("version", f"{first_byte >> 4}.{first_byte & 15}")
