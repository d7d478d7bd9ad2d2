"""What Swarm says of an update of the service."""

from __future__ import annotations

import msgspec
import pytest

from scaling.swarm import service
from scaling.swarm.api import SwarmService
from scaling.swarm.config import SwarmConfig

CONFIG = SwarmConfig(service="peers")


def _said(status: str) -> str:
    found = f'{{"ID": "s", "Version": {{"Index": 7}}, "Spec": {{}}{status}}}'
    return service.update(msgspec.json.decode(found, type=SwarmService), CONFIG)


@pytest.mark.parametrize(
    ("state", "message", "said"),
    [
        ("updating", "update in progress", "the service peers is being updated"),
        ("rollback_started", "", "the service peers is being rolled back"),
        (
            "rollback_started",
            "update rolled back due to failure or early termination of task t1",
            "the service peers is being rolled back "
            "(update rolled back due to failure or early termination of task t1)",
        ),
        (
            "paused",
            "update paused due to failure or early termination of task t1",
            "the service peers has an update that failed and stands still "
            "(update paused due to failure or early termination of task t1)",
        ),
        ("completed", "update completed", ""),
        (
            "rollback_paused",
            "rollback paused",
            "the service peers has a rollback that failed and stands still (rollback paused)",
        ),
        ("rollback_completed", "rollback completed", ""),
        ("", "", ""),
    ],
)
def test_an_update_is_under_way_until_it_is_over(state: str, message: str, said: str) -> None:
    """Also one that has failed and stands still: Swarm would begin it anew for any write, and end a
    container that works for one that fails, each time."""
    assert _said(f', "UpdateStatus": {{"State": "{state}", "Message": "{message}"}}') == said


def test_a_service_without_a_status_is_not_updated() -> None:
    """None was ever updated, or only its number."""
    assert _said("") == ""
