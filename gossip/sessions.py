"""Who has been heard in which life, and which of its datagrams have been seen.

A session is one life of another peer: its uid, its epoch and the random salt of that start. It is
found by those sixteen bytes of a datagram's header, and is kept only from its first authentic
datagram on, so that noise and forgeries leave nothing behind. Recordings of former lives are
authentic; they are what the first to leave are, when there are too many: lives that have proved
nothing. Whoever was forgotten by mistake loses nothing but the proof, and gives it again.

Rejected: timestamps against replays, which need clocks that agree.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

SESSIONS_MAX = 4096
WINDOW = 64
"""So many datagrams may overtake one that then still counts."""

_MASK = 2**WINDOW - 1
_NO_LIVES: dict[bytes, Session] = {}


class Session:
    """One life of another peer, as told by its datagrams.

    Attributes:
        uid, epoch, salt: Which life.
        verified: It has echoed a nonce of ours, so its datagrams are no recordings. Set by whoever
            sent the nonce.
        key_id: The key that its latest datagram was sealed with; 0: none.
        cipher: Opens what that key sealed.
    """

    __slots__ = ("_highest", "_seen", "cipher", "epoch", "key_id", "salt", "uid", "verified")

    def __init__(self, uid: int, epoch: int, salt: int) -> None:
        self.uid = uid
        self.epoch = epoch
        self.salt = salt
        self.verified = False
        self.key_id = 0
        self.cipher: AESGCM | None = None
        self._highest = 0
        self._seen = 0  # bit n: the datagram n before the highest has been seen

    def __repr__(self) -> str:
        proof = "verified" if self.verified else "unverified"
        return f"<Session {self.uid:016x} {self.epoch} {self.salt:08x} {proof}>"

    def is_new(self, counter: int) -> bool:
        """A datagram of this number has not been seen, and is not too old to tell."""
        behind = self._highest - counter
        return behind < 0 or (behind < WINDOW and not self._seen >> behind & 1)

    def note(self, counter: int) -> None:
        """A datagram of this number, which was new, is authentic."""
        behind = self._highest - counter
        if behind >= 0:
            self._seen |= 1 << behind
        else:
            self._seen = (self._seen << -behind | 1) & _MASK if -behind < WINDOW else 1
            self._highest = counter


class Sessions:
    """All that are known, at most so many, by the bytes of the header that name them."""

    def __init__(self, sessions_max: int = SESSIONS_MAX) -> None:
        self._sessions_max = sessions_max
        # The least recently heard first.
        self._sessions: OrderedDict[bytes, Session] = OrderedDict()
        # The oldest first, among them some that have been verified since.
        self._unproven: dict[bytes, None] = {}
        self._lives: dict[int, dict[bytes, Session]] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[Session]:
        return iter(self._sessions.values())

    def get(self, identity: bytes) -> Session | None:
        """Look one up by (uid, epoch, salt) as the header has them."""
        return self._sessions.get(identity)

    def is_over(self, uid: int, epoch: int) -> bool:
        """This life has ended: a later one has proved to be live."""
        for life in self._lives.get(uid, _NO_LIVES).values():
            if life.epoch > epoch and life.verified:
                return True
        return False

    def heard(self, identity: bytes, session: Session) -> None:
        """Keep a session of which something authentic has come."""
        if identity in self._sessions:
            self._sessions.move_to_end(identity)
            if session.verified and len(self._lives[session.uid]) > 1:
                self._bury(session)
            return
        if len(self._sessions) >= self._sessions_max:
            self._drop(self._least_missed())
        self._sessions[identity] = session
        self._unproven[identity] = None
        self._lives.setdefault(session.uid, {})[identity] = session

    def forget(self, uid: int) -> None:
        """Drop all lives of one peer."""
        for identity in list(self._lives.get(uid, ())):
            self._drop(identity)

    def _bury(self, session: Session) -> None:
        """Drop the lives before one that has proved to be live: nothing of them counts any more."""
        for identity, life in list(self._lives[session.uid].items()):
            if life.epoch < session.epoch:
                self._drop(identity)

    def _least_missed(self) -> bytes:
        while self._unproven:
            identity = next(iter(self._unproven))
            if not self._sessions[identity].verified:
                return identity
            del self._unproven[identity]
        return next(iter(self._sessions))

    def _drop(self, identity: bytes) -> None:
        session = self._sessions.pop(identity)
        self._unproven.pop(identity, None)
        lives = self._lives[session.uid]
        del lives[identity]
        if not lives:
            del self._lives[session.uid]
