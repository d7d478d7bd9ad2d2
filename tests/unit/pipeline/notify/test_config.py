"""What can be set about telling administrators."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.notify.config import NotifyConfig

SECRET = "mailto://user:opensesame@example.org"


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"urls": (SECRET, "opensesame@example.org")}, "address 2 does not begin with a service"),
        ({"interval_s": 0.5}, "interval_s must be 1 to 86400"),
        ({"interval_s": 1e6}, "interval_s must be 1 to 86400"),
    ],
)
def test_refuses(changes: dict[str, Any], cause: str) -> None:
    """A mistake is said without the secret."""
    with pytest.raises(ValueError, match=cause) as caught:
        NotifyConfig(**changes)
    assert "opensesame" not in str(caught.value)


def test_never_shows_an_address() -> None:
    """Nor does whoever prints the settings."""
    assert "opensesame" not in repr(NotifyConfig(urls=(SECRET,)))
