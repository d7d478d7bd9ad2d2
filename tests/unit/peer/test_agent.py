"""What a peer that could not start leaves for its next start."""

from __future__ import annotations

from pathlib import Path

import pytest

from peer import config, identity
from peer.agent import Agent
from peer.neighbours import CannotGossip


@pytest.mark.parametrize("crashed_before", [False, True])
async def test_a_start_that_fails_is_no_crash(tmp_path: Path, crashed_before: bool) -> None:
    """It held nothing, so the next start has nothing to bury; but for a crash before it, of which
    it has not come to tell the ledger."""
    settings = config.load(
        {
            "peer.name": "one",
            "peer.data_dir": str(tmp_path),
            "gossip.key": "11" * 32,
            "gossip.listen": "192.0.2.7:0",  # nobody's
        },
        file=Path("/dev/null"),
        environment={},
    )
    file = settings.places.peer("one").identity
    if crashed_before:
        file.parent.mkdir(parents=True)
        identity.save(file, identity.Identity(uid="00000000000000aa", epoch=7))

    expected = pytest.RaisesExc(CannotGossip, match="no such address")
    with pytest.RaisesGroup(expected, allow_unwrapped=True, flatten_subgroups=True):
        await Agent(settings).run()

    assert (identity.crashed(file) is not None) == crashed_before
