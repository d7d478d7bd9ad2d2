"""What can go wrong between a person and a peer, as one tree.

    PeerError
    ├── ConfigError       a setting is unknown, of the wrong type, or contradicts another
    ├── NoPeer            nobody answers on the control socket (exit code 3)
    ├── CommandFailed     the peer answered, and the answer is no; `kind` says which no
    ├── BadAnswer         what came over the control socket is not the protocol
    └── DemoFailed        the demo could not be set up or did not end well

Every message is one sentence for a person: what happened and what to do. They are printed as they
are, so they carry no prefix and no traceback.
"""

from __future__ import annotations

from typing import Literal

FailureKind = Literal["failed", "usage", "not_found"]
"""`usage`: the request itself is wrong; `not_found`: no such task; `failed`: anything else."""


class PeerError(Exception):
    """The root; never raised itself."""


class ConfigError(PeerError):
    """A setting cannot be used; the message says where it came from."""


class NoPeer(PeerError):
    """Nobody answers on the control socket; the message says how to start a peer."""


class CommandFailed(PeerError):
    """The peer refused or could not do what was asked."""

    def __init__(self, message: str, kind: FailureKind = "failed") -> None:
        super().__init__(message)
        self.kind = kind


class BadAnswer(PeerError):
    """The other end of the socket does not speak the control protocol, or stopped half way."""


class DemoFailed(PeerError):
    """The demo could not be set up, or one of its peers or tasks ended badly."""
