"""A load in eight bytes: each number on a scale of its own, so that seventy loads fit a datagram.

Shares are whole percents, counts are counts, and what spans many magnitudes lies on a logarithmic
scale: how long a queue is matters in proportion, not to the message. What does not fit is cut to
the nearest that does, so a broken measurement never makes a datagram that cannot be sent.
"""

from __future__ import annotations

from bisect import bisect_left

from gossip.load import Flag, Load

LOAD_BYTES = 8


class _LogScale:
    """Code 0 is 0; the codes 1 to 255 are spread evenly over the magnitudes from least to most."""

    def __init__(self, least: float, most: float) -> None:
        ratio = (most / least) ** (1 / 254)
        self.values = (0.0, *(least * ratio**step for step in range(255)))
        # A value belongs to the nearest code in proportion: the bounds are geometric means, and
        # between nothing and the least half of the least.
        self._bounds = [least / 2] + [
            (low * high) ** 0.5 for low, high in zip(self.values[1:], self.values[2:], strict=False)
        ]

    def code(self, value: float) -> int:
        return bisect_left(self._bounds, value)


_QUEUE = _LogScale(1.0, 1_000_000.0)
_LAG_S = _LogScale(0.001, 60.0)


def encode_load(load: Load) -> bytes:
    """Return a load's eight bytes: cpu, memory, slots, running, queue, lag, encoding, flags."""
    return bytes(
        (
            _byte(load.cpu * 100),
            _byte(load.memory * 100),
            _byte(load.slots),
            _byte(load.running),
            _QUEUE.code(load.queue),
            _LAG_S.code(load.lag_s),
            _byte(load.encoding),
            int(load.flags) & 0xFF,
        )
    )


def decode_load(packed: bytes) -> Load:
    """Return the load of eight bytes. Any eight bytes are one; flags that a later version adds are
    kept, and mean nothing here."""
    cpu, memory, slots, running, queue, lag, encoding, flags = packed
    return Load(
        cpu=cpu / 100,
        memory=memory / 100,
        slots=slots,
        running=running,
        queue=round(_QUEUE.values[queue]),
        lag_s=_LAG_S.values[lag],
        encoding=encoding,
        flags=Flag(flags),
    )


def _byte(value: float) -> int:
    return round(min(255.0, max(0.0, value)))
