"""The gossip of a hundred peers and of three hundred, simulated; see `gossip/scale.py`."""

from __future__ import annotations

from tests.bench.gossip.scale import measure

__all__ = ["measure"]
