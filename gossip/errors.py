"""What can be wrong with foreign bytes, keys and addresses.

GossipError
 +-- BadPacket      a datagram that is dropped and counted; nothing else is ever raised for one
 +-- BadKey         key material or a key ring that cannot be used; the message says what to do
 +-- BadAddress     a text that is no address, or one that cannot be used here
 +-- CannotListen   the socket could not be opened where it should be
"""

from __future__ import annotations

from typing import Literal

Reason = Literal[
    "short",  # not even a header and a tag
    "oversize",  # longer than any peer ever sends
    "version",  # another protocol's datagram, or of a version whose envelope is another one
    "plaintext",  # unsealed where sealed is asked for, or the reverse
    "key",  # sealed with a key that is not in the ring
    "forged",  # does not authenticate: wrong key, wrong cluster label, truncated or altered
    "replay",  # seen before, or too old to tell
    "own",  # this very peer's own datagram, come back
    "later",  # authentic, and of a kind that only a later version knows
    "malformed",  # authentic, and yet not a message: another peer's mistake
]


class GossipError(Exception):
    """The root of this room's errors."""


class BadPacket(GossipError):
    """A datagram that is not a message for this peer.

    Args:
        reason: The name of the counter that it adds to.
        detail: For a log line.
    """

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason: Reason = reason


class BadKey(GossipError):
    """A key, or a ring of them, that cannot be used; the message says what to do."""


class BadAddress(GossipError):
    """An address that cannot be used; the message says why, and what one looks like."""


class CannotListen(GossipError):
    """The socket could not be opened; the message says where, and what to do."""
