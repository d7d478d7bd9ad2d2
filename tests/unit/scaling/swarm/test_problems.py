"""What engines say (taken down from 20.10.24), and what the controller is told."""

from __future__ import annotations

import pytest

from scaling.ports import Conflict, OrchestratorUnavailable, ScalingError
from scaling.swarm.problems import Lost, Refused, line_trouble, scaling_error
from tests.servers.fake_swarm import (
    DEADLINE,
    LOST_LEADER,
    NO_LEADER,
    NOT_A_MANAGER,
    OUT_OF_SEQUENCE,
)


@pytest.mark.parametrize(
    ("status", "said", "kind", "sentence", "elsewhere", "untouched"),
    [
        (500, OUT_OF_SEQUENCE, Conflict, "changed by somebody else", False, False),
        (500, NO_LEADER, OrchestratorUnavailable, "start managers until most", True, False),
        (500, LOST_LEADER, OrchestratorUnavailable, "have no leader", True, False),
        (500, DEADLINE, OrchestratorUnavailable, "have no leader", True, False),
        (503, NOT_A_MANAGER, OrchestratorUnavailable, "docker node promote", True, True),
        (403, "denied", OrchestratorUnavailable, "must let through", False, False),
        (400, "bad", OrchestratorUnavailable, "answered 400: bad", False, False),
    ],
)
def test_what_a_refusal_means(
    status: int,
    said: str,
    kind: type[ScalingError],
    sentence: str,
    elsewhere: bool,
    untouched: bool,
) -> None:
    """Only what certainly changed nothing may be asked of another manager."""
    refused = Refused(status, said)
    error = scaling_error(refused, "unix:///here")
    assert type(error) is kind
    assert sentence in str(error)
    assert (refused.elsewhere, refused.untouched) == (elsewhere, untouched)


@pytest.mark.parametrize(
    ("cause", "sentence", "untouched"),
    [
        (PermissionError(13, "denied"), "add the user to the group docker", True),
        (ConnectionResetError(104, "reset"), "cannot be talked to", False),
        (TimeoutError(), "is silent", False),
    ],
)
def test_what_a_broken_line_means(cause: OSError, sentence: str, untouched: bool) -> None:
    """The cause is found below what wraps it; what may have been heard is not said again."""
    try:
        try:
            raise cause
        except OSError as inner:
            raise OSError("wrapped", inner)  # noqa: B904  urllib3 wraps in arguments
    except OSError as error:
        lost = line_trouble(error, "unix:///here")
    assert isinstance(lost, Lost)
    assert sentence in str(lost)
    assert (lost.elsewhere, lost.untouched) == (True, untouched)
    assert isinstance(scaling_error(lost, "unix:///here"), OrchestratorUnavailable)
