"""The table: what a merge makes of a row, what counts as evidence, and what is forgotten when."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import pytest

from gossip.config import GossipConfig
from gossip.rows import AgedRow, Body, Row, State
from gossip.table import Merged, Outcome, Table
from tests.tables import CONFIG, OWN_UID, START, a_row, a_table, told

ALIVE, SUSPECT, DEAD, LEFT = State

UID = 0x0123_4567_89AB_CDEF
OTHER_BODY = Body(address=("127.0.0.2", 7946))


def _known(table: Table, uid: int = UID) -> Row:
    entry = table.get(uid)
    assert entry is not None
    return entry.row


# -- merging


@pytest.mark.parametrize(
    ("known", "told_row", "outcome"),
    [
        (a_row(UID), a_row(UID), Outcome.SAME),
        (a_row(UID), a_row(UID, state=SUSPECT), Outcome.NEWER),
        (a_row(UID, state=SUSPECT), a_row(UID), Outcome.OLDER),
        (a_row(UID, state=DEAD), a_row(UID, state=SUSPECT), Outcome.OLDER),
        (a_row(UID, state=DEAD), a_row(UID, state=LEFT), Outcome.NEWER),
        (a_row(UID, state=DEAD), a_row(UID, state=DEAD), Outcome.SAME),
        (a_row(UID, state=LEFT), a_row(UID, state=DEAD), Outcome.OLDER),
        (a_row(UID, state=DEAD), a_row(UID, incarnation=1), Outcome.NEWER),
        (a_row(UID, incarnation=9, state=LEFT), a_row(UID, epoch=2), Outcome.NEWER),
        (a_row(UID, epoch=2), a_row(UID, incarnation=9, state=DEAD), Outcome.OLDER),
    ],
)
def test_the_higher_order_wins(known: Row, told_row: Row, outcome: Outcome) -> None:
    """Epoch before incarnation before state; the outcome names what happened and shows both."""
    table = a_table(known)
    merged = table.merge(START, AgedRow(told_row, 0.0))
    winner = told_row if outcome is Outcome.NEWER else known
    assert merged == Merged(outcome, winner, known)
    assert _known(table) == winner


def test_an_unknown_peer_is_new() -> None:
    """There was no row before."""
    table = a_table()
    assert table.merge(START, AgedRow(a_row(UID), 1.0)) == (Outcome.NEW, a_row(UID), None)
    assert table.present == (UID, OWN_UID)


@pytest.mark.parametrize("first", [0, 1])
def test_two_bodies_of_one_order_are_settled_alike(first: int) -> None:
    """A broken peer says two things at once; whatever comes first, the same one stays."""
    rows = [a_row(UID), a_row(UID, body=OTHER_BODY)]
    table = a_table(rows[first], rows[1 - first])
    assert _known(table) == a_row(UID, body=OTHER_BODY)


@pytest.mark.parametrize(
    ("state", "age_s", "believed"),
    [
        (ALIVE, 30.0, True),
        (ALIVE, 30.1, False),
        (SUSPECT, 30.1, False),
        (DEAD, 30.1, True),
        (LEFT, 600.0, True),
        (DEAD, 600.1, False),
        (LEFT, 600.1, False),
    ],
)
def test_the_age_rule(state: State, age_s: float, believed: bool) -> None:
    """Of an unknown peer, no living row is believed whose evidence is old, and no tombstone that
    would be forgotten at once."""
    table = a_table()
    row = a_row(UID, state=state)
    merged = table.merge(START, AgedRow(row, age_s))
    assert merged == Merged(Outcome.NEW if believed else Outcome.REFUSED, row, None)
    assert (table.get(UID) is not None) == believed
    assert table.believable(AgedRow(row, age_s)) == believed


def test_the_age_rule_does_not_hold_up_what_is_newer() -> None:
    """A known peer's higher row is taken over however old it is, or two tables that know the peer
    would never agree on it."""
    table = a_table(a_row(UID, state=DEAD))
    merged = table.merge(START, AgedRow(a_row(UID, incarnation=1), 500.0))
    assert merged.outcome is Outcome.NEWER
    assert table.age_s(START, UID) == 500.0


# -- this peer itself


@pytest.mark.parametrize(
    ("row", "outcome"),
    [
        (a_row(OWN_UID, incarnation=5), Outcome.SAME),
        (a_row(OWN_UID, incarnation=4, state=DEAD), Outcome.OLDER),
        (a_row(OWN_UID, incarnation=5, state=SUSPECT), Outcome.ABOUT_OWN),
        (a_row(OWN_UID, incarnation=5, body=OTHER_BODY), Outcome.ABOUT_OWN),
        (a_row(OWN_UID, incarnation=6), Outcome.ABOUT_OWN),
        (a_row(OWN_UID, epoch=2, state=LEFT), Outcome.ABOUT_OWN),
    ],
)
@pytest.mark.parametrize("age_s", [0.0, 1000.0])
def test_nobody_else_changes_the_own_row(row: Row, outcome: Outcome, age_s: float) -> None:
    """Whatever is said of this peer, at whatever age, its row stays; what must be contradicted is
    handed out as it was said."""
    own = a_row(OWN_UID, incarnation=5)
    table = Table(CONFIG, own, START)
    before = table.fingerprint(START)
    merged = table.merge(START, AgedRow(row, age_s))
    assert merged == Merged(outcome, row if outcome is Outcome.ABOUT_OWN else own, own)
    assert table.own == _known(table, OWN_UID) == own
    assert table.fingerprint(START) == before


def test_the_own_row_goes_up_only() -> None:
    """Others believe nothing that is not higher, and another uid is another operation."""
    table = Table(CONFIG, a_row(OWN_UID, incarnation=5), START)
    for row in (a_row(OWN_UID, incarnation=5), a_row(OWN_UID, incarnation=4, state=LEFT)):
        with pytest.raises(ValueError, match="must go up"):
            table.set_own(START, row)
    with pytest.raises(ValueError, match="rename_own"):
        table.set_own(START, a_row(UID, incarnation=6))
    table.set_own(START, a_row(OWN_UID, incarnation=6))
    assert table.own == a_row(OWN_UID, incarnation=6)


def test_who_leaves_is_present_no_more_and_still_never_forgets_itself() -> None:
    """The own departure is a row like any other, with the age of its declaration."""
    table = a_table()
    table.set_own(START, a_row(OWN_UID, state=LEFT))
    assert table.present == table.living == ()
    assert table.age_s(START + 2.0, OWN_UID) == 2.0
    assert table.forget(START + 10_000.0) == []
    assert table.own.state is LEFT


def test_the_own_row_is_always_young() -> None:
    """A peer is its own first-hand evidence."""
    table = a_table()
    assert table.aged(START + 1000.0, OWN_UID) == AgedRow(a_row(OWN_UID), 0.0)


def test_a_lost_identity_stays_as_a_foreign_row() -> None:
    """Somebody else lives under the old uid: from now on he may be suspected, and goes silent."""
    table = a_table()
    table.rename_own(START + 5.0, a_row(UID, incarnation=1))
    assert table.own == a_row(UID, incarnation=1)
    assert table.present == (UID, OWN_UID)
    assert table.age_s(START + 7.0, OWN_UID) == 2.0
    merged = table.merge(START + 7.0, AgedRow(a_row(OWN_UID, state=SUSPECT), 0.0))
    assert merged.outcome is Outcome.NEWER
    assert table.merge(START, AgedRow(a_row(UID, incarnation=2), 0.0)).outcome is Outcome.ABOUT_OWN


def test_an_identity_that_had_left_becomes_a_tombstone() -> None:
    """The old uid's departure is remembered as long as anybody's, and then forgotten."""
    table = a_table()
    table.set_own(START, a_row(OWN_UID, state=LEFT))
    table.rename_own(START, a_row(UID))
    assert table.forget(START + CONFIG.tombstone_s) == []
    assert table.forget(START + CONFIG.tombstone_s + 1.0) == [a_row(OWN_UID, state=LEFT)]


def test_a_uid_that_is_taken_is_not_taken_again() -> None:
    """The caller draws another one."""
    table = a_table(a_row(UID))
    with pytest.raises(ValueError, match="draw another"):
        table.rename_own(START, a_row(UID, epoch=2))


# -- what this peer declares


def test_a_declaration_raises_the_state_at_its_incarnation() -> None:
    """What the owner said of itself stays; since when it is dead, counts from now."""
    table = a_table(a_row(UID, epoch=3, incarnation=7), age_s=4.0)
    suspect = table.declare(START, UID, SUSPECT)
    assert suspect == _known(table) == a_row(UID, epoch=3, incarnation=7, state=SUSPECT)
    assert table.age_s(START, UID) == 4.0
    dead = table.declare(START + 3.0, UID, DEAD)
    assert dead == replace(suspect, state=DEAD)
    assert table.age_s(START + 4.0, UID) == 1.0


@pytest.mark.parametrize(
    ("known", "state", "complaint"),
    [
        (a_row(UID), LEFT, "only its owner"),
        (a_row(UID, state=SUSPECT), ALIVE, "only its owner"),
        (a_row(UID, state=SUSPECT), SUSPECT, "SUSPECT cannot be declared SUSPECT"),
        (a_row(UID, state=LEFT), DEAD, "LEFT cannot be declared DEAD"),
        (a_row(OWN_UID), SUSPECT, "cannot be declared"),
    ],
)
def test_what_cannot_be_declared(known: Row, state: State, complaint: str) -> None:
    """Only upwards, never a departure, never about oneself."""
    table = a_table(known)
    with pytest.raises(ValueError, match=complaint):
        table.declare(START, known.uid, state)


def test_an_unknown_peer_has_no_age_and_no_state() -> None:
    """Asking for one is the caller's mistake; hearing from one is not."""
    table = a_table()
    table.heard(UID, START)
    assert table.get(UID) is None
    for ask in (table.age_s, table.aged):
        with pytest.raises(KeyError):
            ask(START, UID)
    with pytest.raises(KeyError):
        table.declare(START, UID, DEAD)


# -- evidence


def test_of_equal_rows_the_younger_evidence_counts() -> None:
    """An old copy takes nothing back, a younger one does not wait for a newer row."""
    table = a_table(a_row(UID), age_s=5.0)
    for age_s, expected_s in ((9.0, 5.0), (2.0, 2.0), (3.0, 2.0)):
        table.merge(START, AgedRow(a_row(UID), age_s))
        assert table.age_s(START, UID) == expected_s


def test_an_age_grows_while_the_row_lies_here() -> None:
    """Whoever passes a row on adds the time that it lay with him."""
    table = a_table(a_row(UID), age_s=5.0)
    assert table.aged(START + 7.5, UID) == AgedRow(a_row(UID), 12.5)


def test_hearing_a_peer_makes_its_row_young() -> None:
    """Evidence goes forward only, and is never from the future."""
    table = a_table(a_row(UID), age_s=5.0)
    table.heard(UID, START - 1.0)
    table.heard(UID, START - 3.0)
    assert table.age_s(START, UID) == 1.0
    table.heard(UID, START + 1.0)
    assert table.age_s(START, UID) == 0.0


@pytest.mark.parametrize(
    ("known", "told_row", "age_s"),
    [
        # An older row of the same epoch is a sign of life all the same.
        (a_row(UID, incarnation=2), a_row(UID, incarnation=1), 3.0),
        (a_row(UID, state=SUSPECT), a_row(UID), 3.0),
        # So was the older one when a newer one comes with less.
        (a_row(UID, epoch=2), a_row(UID, epoch=2, state=SUSPECT), 3.0),
        # The process of an earlier epoch is another one.
        (a_row(UID, epoch=2), a_row(UID, epoch=1), 8.0),
    ],
)
def test_evidence_belongs_to_an_epoch(known: Row, told_row: Row, age_s: float) -> None:
    """The youngest evidence for the epoch that won is its age, in whatever order it came."""
    newer_first = Table(CONFIG, a_row(OWN_UID), START)
    older_first = Table(CONFIG, a_row(OWN_UID), START)
    rows = (AgedRow(known, 8.0), AgedRow(told_row, 3.0))
    told(newer_first, START, rows)
    told(older_first, START, reversed(rows))
    assert newer_first.age_s(START, UID) == older_first.age_s(START, UID) == age_s


def test_of_equal_tombstones_the_earlier_declaration_counts() -> None:
    """Or a tombstone that is handed around would never be old enough to be forgotten."""
    table = a_table(a_row(UID, state=DEAD), age_s=5.0)
    for age_s, expected_s in ((2.0, 5.0), (9.0, 9.0), (7.0, 9.0)):
        table.merge(START, AgedRow(a_row(UID, state=DEAD), age_s))
        assert table.age_s(START, UID) == expected_s


def test_no_sign_of_life_makes_a_tombstone_younger() -> None:
    """A datagram that was late, or a row that was true once, changes nothing of a death."""
    table = a_table(a_row(UID, state=DEAD), age_s=5.0)
    table.heard(UID, START)
    table.merge(START, AgedRow(a_row(UID), 0.0))
    assert table.aged(START, UID) == AgedRow(a_row(UID, state=DEAD), 5.0)


def test_who_contradicts_its_death_is_as_old_as_the_latest_sign_of_it() -> None:
    """What was heard while it was taken for dead counts, once it is known to have lived."""
    table = a_table(a_row(UID, state=DEAD))
    table.heard(UID, START + 4.0)
    table.merge(START + 9.0, AgedRow(a_row(UID, incarnation=1), 8.0))
    assert table.age_s(START + 9.0, UID) == 5.0


def test_without_any_evidence_there_is_none() -> None:
    """A peer that was dead when it was first heard of has never been heard."""
    table = a_table(a_row(UID, state=DEAD))
    entry = table.get(UID)
    assert entry is not None
    assert (entry.heard_at, entry.declared_at) == (-inf, START)


# -- the lists


def test_the_lists_follow_the_states() -> None:
    """Present are the living and the suspects; the departed are nowhere; all in order of uids."""
    states = {1: DEAD, 2: ALIVE, 3: LEFT, 4: SUSPECT, 5: ALIVE, 6: DEAD}
    table = a_table(*(a_row(uid, state=state) for uid, state in sorted(states.items())[::-1]))
    assert table.present == (2, 4, 5, OWN_UID)
    assert table.living == (2, 5, OWN_UID)
    assert table.dead == (1, 6)
    assert [entry.row.uid for entry in table.entries()] == [*states, OWN_UID]
    assert len(table) == 7


def test_a_list_is_the_same_object_until_it_changes() -> None:
    """Whoever derives something from it sees at a glance whether he must do so again."""
    table = a_table(a_row(1), a_row(2))
    present, living, dead = table.present, table.living, table.dead
    table.merge(START, AgedRow(a_row(1, incarnation=1), 0.0))
    table.heard(2, START)
    assert (table.present is present, table.living is living, table.dead is dead) == (True,) * 3
    table.declare(START, 1, SUSPECT)
    assert table.present is present
    assert table.living == (2, OWN_UID)
    table.declare(START, 1, DEAD)
    assert (table.present, table.dead) == ((2, OWN_UID), (1,))


# -- comparing


def _hashes_changed(before: Table, after: Table) -> list[int]:
    pairs = zip(before.hashes(START), after.hashes(START), strict=True)
    return [bucket for bucket, (one, other) in enumerate(pairs) if one != other]


@pytest.mark.parametrize(
    "row",
    [
        a_row(UID, epoch=2),
        a_row(UID, incarnation=1),
        a_row(UID, state=SUSPECT),
        a_row(UID, state=DEAD),
        a_row(UID + 1),
    ],
)
def test_each_difference_shows_in_its_bucket_only(row: Row) -> None:
    """The hash covers uid, epoch, incarnation and state; the bucket is the uid's highest bits."""
    assert _hashes_changed(a_table(a_row(UID)), a_table(row)) == [UID >> 58]
    assert a_table(a_row(UID)).fingerprint(START) != a_table(row).fingerprint(START)


def test_hashes_do_not_depend_on_the_way_there() -> None:
    """Two tables that hold the same rows have the same hashes, however they came to them."""
    straight = a_table(a_row(1, incarnation=2, state=DEAD), a_row(UID))
    crooked = a_table(a_row(UID, state=SUSPECT), a_row(1))
    crooked.declare(START, 1, SUSPECT)
    assert crooked.fingerprint(START) != straight.fingerprint(START)
    crooked.merge(START, AgedRow(a_row(1, incarnation=2), 3.0))
    crooked.declare(START, 1, DEAD)
    straight.merge(START, AgedRow(a_row(UID, state=SUSPECT), 9.0))
    assert crooked.hashes(START) == straight.hashes(START)
    assert crooked.fingerprint(START) == straight.fingerprint(START)


def test_hashes_are_the_same_in_every_version() -> None:
    """They travel: another version of this program must compute the very same."""
    rows = (a_row(UID, epoch=7, incarnation=3, state=SUSPECT), a_row(2**64 - 1, state=LEFT))
    hashes = a_table(*rows).hashes(START)
    assert {bucket: value for bucket, value in enumerate(hashes) if value} == {
        UID >> 58: 0x477A_8697,
        OWN_UID >> 58: 0x9DF3_2E11,
        63: 0xACDC_AA73,
    }


def test_old_tombstones_are_in_no_digest() -> None:
    """Peers forget them at different moments, and must not take that for a difference."""
    table = a_table(a_row(UID, state=DEAD), a_row(UID + 1, state=LEFT), a_row(UID + 2))
    without = a_table(a_row(UID + 2))
    for later_s, same in ((0.0, False), (300.0, False), (300.1, True), (600.0, True)):
        now = START + later_s
        assert (table.hashes(now) == without.hashes(now)) == same
        assert (table.fingerprint(now) == without.fingerprint(now)) == same
        assert (len(table.rows_in(now, 2**64 - 1)) == 2) == same
    assert table.get(UID) is not None
    assert table.merge(now, AgedRow(a_row(UID, incarnation=1), 0.0)).outcome is Outcome.NEWER
    assert table.hashes(now) != without.hashes(now)


def test_a_tombstone_that_turns_out_older_leaves_the_digest_earlier() -> None:
    """What counts is when the death was declared, not when this peer heard of it."""
    table = a_table(a_row(UID, state=DEAD), a_row(UID + 1, state=DEAD))
    table.merge(START, AgedRow(a_row(UID, state=DEAD), 200.0))
    rows = table.rows_in(START + 101.0, 2**64 - 1)
    assert [aged.row.uid for aged in rows] == [UID + 1, OWN_UID]
    rows = table.rows_in(START + 301.0, 2**64 - 1)
    assert [aged.row.uid for aged in rows] == [OWN_UID]


def test_rows_come_by_bucket() -> None:
    """Only those of the buckets asked for, in order, with their ages."""
    uids = [bucket << 58 | low for bucket in (63, 7, 0) for low in (2, 1, 2**58 - 1)]
    table = a_table(*map(a_row, uids), age_s=1.0)
    rows = table.rows_in(START + 1.0, 1 << 63 | 1)
    assert rows == [AgedRow(a_row(uid), 2.0) for uid in sorted(uids[:3] + uids[6:])]


# -- forgetting


def test_tombstones_run_out() -> None:
    """After tombstone_s from the declaration, wherever that was; the living stay."""
    table = a_table(a_row(1, state=DEAD), a_row(3), age_s=10.0)
    table.merge(START, AgedRow(a_row(2, state=LEFT), 0.0))
    assert table.forget(START + 590.0) == []
    assert table.forget(START + 590.1) == [a_row(1, state=DEAD)]
    assert table.forget(START + 600.1) == [a_row(2, state=LEFT)]
    assert table.present == (3, OWN_UID)
    assert table.dead == ()
    assert table.fingerprint(START) == a_table(a_row(3)).fingerprint(START)


def test_what_was_forgotten_is_unknown() -> None:
    """A tombstone that others still hold is not taken back; a young living row is new."""
    table = a_table(a_row(UID, state=DEAD))
    now = START + 601.0
    assert table.forget(now) == [a_row(UID, state=DEAD)]
    for row, age_s, outcome in (
        (a_row(UID, state=DEAD), 601.0, Outcome.REFUSED),
        (a_row(UID), 601.0, Outcome.REFUSED),
        (a_row(UID), 1.0, Outcome.NEW),
    ):
        assert table.merge(now, AgedRow(row, age_s)).outcome is outcome


def _crowded(present: int) -> Table:
    """A table with tombstones 1 to 10, declared one second after the other, the first at START."""
    config = GossipConfig(tombstones_min=4)
    table = a_table(*(a_row(2**40 + n) for n in range(present - 1)), config=config)
    for uid in range(1, 11):
        table.merge(START + uid, AgedRow(a_row(uid, state=DEAD), 1.0))
    return table


@pytest.mark.parametrize(
    ("present", "kept"), [(1, 4), (8, 4), (12, 6), (13, 6), (20, 10), (40, 10)]
)
def test_of_too_many_tombstones_the_oldest_go(present: int, kept: int) -> None:
    """tombstones_min, or half of the members if that is more."""
    table = _crowded(present)
    gone = table.forget(START + 100.0)
    assert [row.uid for row in gone] == list(range(1, 11 - kept))
    assert table.dead == tuple(range(11 - kept, 11))
    assert table.forget(START + 100.0) == []


def test_no_tombstone_goes_while_the_age_rule_needs_it() -> None:
    """However many there are: who was alive within the last minute could be believed again."""
    table = _crowded(present=1)
    assert table.forget(START + 60.0) == []
    assert [row.uid for row in table.forget(START + 63.5)] == [1, 2, 3, 4]
    assert [row.uid for row in table.forget(START + 70.0)] == [5, 6]


def test_a_surplus_tombstone_does_not_come_back() -> None:
    """Somebody with more members keeps more of them, and offers them again and again."""
    table = _crowded(present=1)
    now = START + 300.0
    assert len(table.forget(now)) == 6
    for uid in range(1, 7):
        merged = table.merge(now, AgedRow(a_row(uid, state=DEAD), 300.5 - uid))
        assert merged.outcome is Outcome.REFUSED
    merged = table.merge(now, AgedRow(a_row(UID, state=DEAD), 250.0))
    assert merged.outcome is Outcome.NEW


def test_the_unheard_fade_when_others_are_heard() -> None:
    """A living row that nobody could confirm for as long as a tombstone lasts is nobody any more:
    its death was declared, and forgotten, while this peer was away."""
    table = a_table(a_row(1), a_row(2), a_row(3))
    now = START + 601.0
    for uid in (2, 3):
        table.heard(uid, now - 10.0)
    assert table.forget(START + 599.0) == []
    assert table.forget(now) == [a_row(1)]
    assert table.present == (2, 3, OWN_UID)


def test_nobody_fades_for_a_peer_that_hears_hardly_anybody() -> None:
    """It is cut off itself, and its table is the way back."""
    table = a_table(a_row(1), a_row(2), a_row(3), a_row(4))
    now = START + 2000.0
    for uid in (3, 4):
        table.heard(uid, now)
    assert table.forget(now) == []
    table.heard(2, now + 30.0)
    assert table.forget(now + 30.0) == [a_row(1)]
