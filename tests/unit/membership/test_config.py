"""That the numbers hang together, and keep doing so when all times are scaled."""

from __future__ import annotations

import pytest

from membership.config import MembershipConfig, lan, quiet


def test_scaling_keeps_the_protocol() -> None:
    """All times and the rate are scaled, counts and shares are not."""
    fast = lan().scaled(0.1)
    assert fast.heartbeat_interval_s == pytest.approx(0.05)
    assert fast.gossip.digest_interval_s == pytest.approx(0.2)
    assert fast.gossip.bytes_per_s == pytest.approx(80_000)
    assert fast.observers == lan().observers
    assert fast.gossip.pages_max == lan().gossip.pages_max
    assert fast.gossip.burst_bytes == lan().gossip.burst_bytes


def test_the_quiet_profile_is_quieter_and_valid() -> None:
    """Every interval of it is as long as the default's, or longer."""
    assert quiet().heartbeat_interval_s > lan().heartbeat_interval_s
    assert quiet().gossip.gossip_interval_s > lan().gossip.gossip_interval_s


@pytest.mark.parametrize(
    "values",
    [
        {"alert_valid_s": 2.0},
        {"watch_lease_s": 15.0},
        {"dead_silence_s": 2.0},
        {"listen_interval_s": 0.2},
    ],
)
def test_what_does_not_fit_together_is_refused(values: dict[str, float]) -> None:
    """A configuration that would accuse the innocent cannot be made."""
    with pytest.raises(ValueError, match="must"):
        MembershipConfig(**values)  # type: ignore[arg-type] # one field each
