"""A decision with everything it was made of, as JSON, so that it can be repeated.

The memory is recorded too. To replay all snapshots from a leader's first one would do without, but
one lost row would then make all later decisions unrepeatable.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from scaling.config import ScalingConfig
from scaling.decision import Decision
from scaling.memory import Memory
from scaling.policy import decide
from scaling.snapshot import Snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class Considered:
    """One decision, and what it was made of.

    Args:
        memory: As it was before the decision.
    """

    snapshot: Snapshot
    config: ScalingConfig
    memory: Memory
    decision: Decision

    def encode(self) -> bytes:
        """Return it as JSON."""
        return msgspec.json.encode(self)

    @classmethod
    def decode(cls, recorded: bytes | str) -> Considered:
        """Read it back. Raises `msgspec.DecodeError` for what `encode` has not written."""
        return msgspec.json.decode(recorded, type=cls)

    def repeated(self) -> Decision:
        """Decide again; equal to `decision` as long as the policy is the same."""
        decision, _ = decide(self.snapshot, self.config, self.memory)
        return decision
