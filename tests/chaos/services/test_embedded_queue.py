"""The embedded queue's server goes away while every slot is busy.

Nobody waits for a message then, so no peer notices that its session, and with it all that it holds,
is gone, before it ends one of its tasks. (At which steps: `test_matrix`.)
"""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest
import trio

from tests.chaos.services.gates import Detour, Gate, Gates, Place
from tests.chaos.services.neighbourhood import Neighbourhood
from tests.chaos.services.peer import NEVER_S
from tests.chaos.services.places import hand_in, went_otherwise
from tests.chaos.services.rig import Rig, until
from tests.chaos.services.services import KILL, RESTART, Fault
from tests.chaos.services.small import PatientTranscoder

pytestmark = pytest.mark.slow

PEERS, SLOTS = 2, 2
BEGUN_WITHIN_S = 20.0
SETTLED_WITHIN_S = 60.0


@pytest.mark.parametrize("fault", [RESTART, KILL], ids=lambda fault: fault.name)
async def test_the_server_goes_away_while_all_slots_are_busy(
    embedded_rig: Rig, fault: Fault
) -> None:
    """Each peer ends one of its tasks, takes another, and then fails what it has had all along: no
    message is lost with the session, so that comes again and is done; nothing is begun twice."""
    rig, transcoder, town = embedded_rig, PatientTranscoder(), Neighbourhood()
    ended, failed, later = (new(place) for place in (Gate.ACK, Detour.RETRY, Gate.ACK))
    ways = Gates(ways={**ended, **failed})

    async def all_are_begun() -> bool:
        return transcoder.begun.keys() == {*ended, *failed}

    async def later_ones_are_begun() -> bool:
        return transcoder.begun.keys() == {*ended, *failed, *later}

    one, other = (
        rig.peer(f"peer-{number}", number, slots=SLOTS, forgotten_s=NEVER_S) for number in (1, 2)
    )
    async with (
        town.working(one, transcoder, gates=ways),
        town.working(other, transcoder, gates=ways),
    ):
        await hand_in(rig, {**ended, **failed})
        await until(all_are_begun, BEGUN_WITHIN_S)
        await trio.to_thread.run_sync(fault.begin, rig.site.services.ledger)
        await trio.to_thread.run_sync(fault.end, rig.site.services.ledger)
        await hand_in(rig, later)
        transcoder.end(*ended)
        await until(later_ones_are_begun, BEGUN_WITHIN_S)
        transcoder.end(*failed, *later)
        await rig.wait_until_settled(SETTLED_WITHIN_S)
        await rig.wait_until_quiet()
    trails = await rig.conclude()
    assert went_otherwise(trails, transcoder.begun, ended, failed, later) == {}


def new(place: Place) -> dict[UUID, Place]:
    """A task for each peer that goes the way of that place."""
    return {uuid4(): place for _ in range(PEERS)}
