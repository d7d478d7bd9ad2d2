"""A leader may act only while its lease certainly holds, and lets go in good order."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock

from scaling.ports import OrchestratorUnavailable
from scaling.tenure import ASK_AGAIN_S, Tenure

LEASE_S = 20.0


class Register:
    """Implements `Lease`: gives what a test puts here, and takes as long as it says."""

    def __init__(self) -> None:
        self.term: int | None = 1
        self.takes_s = 0.0
        self.giving_takes_s = 0.0
        self.away = False
        self.kept = 0
        self.given_up = 0
        self.meanwhile: Callable[[], None] = lambda: None

    async def keep(self, holder: str) -> int | None:
        assert holder == "me"
        self.kept += 1
        await trio.sleep(self.takes_s)
        self.meanwhile()
        if self.away:
            raise OrchestratorUnavailable("no manager answers")
        return self.term

    async def give_up(self, holder: str) -> None:
        assert holder == "me"
        await trio.sleep(self.giving_takes_s)
        self.given_up += 1


class Someone:
    """A tenure, and whether the others take it for the leader."""

    def __init__(self) -> None:
        self.register, self.leads, self.changes = Register(), True, 0
        self.tenure = Tenure(
            self.register,
            lambda: "me",
            lease_s=LEASE_S,
            leads=lambda: self.leads,
            changed=self._note,
        )

    def _note(self) -> None:
        self.changes += 1


async def test_nobody_acts_without_a_lease(autojump_clock: MockClock) -> None:
    """Not before it was asked for, and not while another one has it."""
    someone = Someone()
    assert someone.tenure.term is None
    someone.register.term = None
    await someone.tenure.look()
    assert someone.tenure.term is None
    someone.register.term = 4
    await someone.tenure.look()
    assert someone.tenure.term == 4
    assert someone.tenure.may_act(4)
    assert not someone.tenure.may_act(3)


async def test_a_lease_counts_from_before_it_was_asked_for(
    autojump_clock: MockClock,
) -> None:
    """The register may have counted from when the question came: so the time it took is lost."""
    someone = Someone()
    someone.register.takes_s = 6.0
    await someone.tenure.look()
    await trio.sleep(LEASE_S - 6.0 - 0.1)
    assert someone.tenure.may_act(1)
    await trio.sleep(0.2)
    assert not someone.tenure.may_act(1)


async def test_renewals_that_fail_end_it_in_time(autojump_clock: MockClock) -> None:
    """It stops by itself when the register is away for as long as the lease lasts, and goes on
    under the same term when it answers again and nobody was quicker."""
    someone = Someone()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(someone.tenure.run)
        await trio.sleep(1.0)
        assert someone.tenure.may_act(1)
        someone.register.away = True
        await trio.sleep(LEASE_S - 1.5)
        assert someone.tenure.may_act(1)
        assert someone.tenure.trouble == "no manager answers"
        await trio.sleep(2.0)
        assert someone.tenure.term is None
        someone.register.away = False
        await trio.sleep(LEASE_S / 2)
        assert someone.tenure.may_act(1)
        assert someone.tenure.trouble == ""
        nursery.cancel_scope.cancel()


async def test_a_register_that_never_answers_is_not_waited_for(
    autojump_clock: MockClock,
) -> None:
    """For as long as the lease would last; then it is asked again."""
    someone = Someone()
    someone.register.takes_s = 1e6
    await someone.tenure.look()
    assert trio.current_time() <= LEASE_S + 0.1
    assert "could not be had" in someone.tenure.trouble


async def test_whom_the_others_follow_no_more_gives_it_up(
    autojump_clock: MockClock,
) -> None:
    """At once for itself, and then for the next one; also when it is told to end."""
    someone = Someone()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(someone.tenure.run)
        await trio.sleep(1.0)
        someone.leads = False
        assert not someone.tenure.may_act(1)
        someone.tenure.wake()
        await trio.sleep(0.1)
        assert (someone.register.given_up, someone.register.kept) == (1, 1)
        someone.leads = True
        someone.tenure.wake()
        await trio.sleep(0.1)
        assert someone.tenure.may_act(1)
        nursery.cancel_scope.cancel()
    assert someone.register.given_up == 2
    assert someone.tenure.term is None


async def test_who_is_told_to_end_gives_it_up_at_once(autojump_clock: MockClock) -> None:
    """Whatever it still has to finish, and although the others have not heard of it yet; it does
    not take the lease again."""
    someone = Someone()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(someone.tenure.run)
        await trio.sleep(1.0)
        someone.tenure.resign()
        assert not someone.tenure.may_act(1)
        await trio.sleep(0.1)
        assert (someone.register.given_up, someone.register.kept) == (1, 1)
        await trio.sleep(2 * LEASE_S)
        assert (someone.register.given_up, someone.register.kept) == (1, 1)
        nursery.cancel_scope.cancel()
    assert someone.register.given_up == 1


@pytest.mark.parametrize("during", ["keep", "give_up"])
async def test_what_may_be_its_own_is_given_up_at_the_end(
    autojump_clock: MockClock, during: str
) -> None:
    """The loop is cancelled while the lease is being taken, or given up: nobody knows what came of
    it, so it is given up once more."""
    someone = Someone()
    someone.register.takes_s = 3.0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(someone.tenure.run)
        await trio.sleep(1.0 if during == "keep" else 4.0)
        if during == "give_up":
            someone.register.giving_takes_s = 2.0
            someone.tenure.resign()
            await trio.sleep(1.0)
            assert someone.register.given_up == 0
        nursery.cancel_scope.cancel()
    assert someone.register.given_up == 1


async def test_who_is_to_follow_takes_it_within_a_second(autojump_clock: MockClock) -> None:
    """The others have heard that the leader goes before it has given its lease up."""
    someone = Someone()
    someone.register.term = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(someone.tenure.run)
        await trio.sleep(3.5)
        someone.register.term = 7
        await trio.sleep(ASK_AGAIN_S)
        assert someone.tenure.may_act(7)
        nursery.cancel_scope.cancel()


async def test_who_was_superseded_begins_anew_later(
    autojump_clock: MockClock,
) -> None:
    """It gives up what it may have, so that the next term is another one, and waits for a round."""
    someone = Someone()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(someone.tenure.run)
        await trio.sleep(1.0)
        someone.tenure.step_down(7.0)
        assert someone.tenure.term is None
        await trio.sleep(0.1)
        assert someone.register.given_up == 1
        someone.register.term = 2
        await trio.sleep(6.0)
        assert someone.tenure.term is None
        await trio.sleep(LEASE_S / 4 + 1.0)
        assert someone.tenure.may_act(2)
        nursery.cancel_scope.cancel()


async def test_a_renewal_under_way_does_not_undo_that(
    autojump_clock: MockClock,
) -> None:
    """It was asked for before the later leader was heard of."""
    someone = Someone()
    someone.register.meanwhile = lambda: someone.tenure.step_down(5.0)
    await someone.tenure.look()
    assert someone.tenure.term is None
    assert someone.changes >= 1
