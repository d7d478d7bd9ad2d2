"""The laws of the table: merging is a join, the own row is one's own, and the dead stay dead."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gossip.config import GossipConfig
from gossip.rows import AgedRow, Body, Row, State
from gossip.table import Outcome, Table
from tests.tables import CONFIG, OWN_UID, START, a_row, a_table, told

UIDS = (1, 2, 3 << 58, 2**64 - 1)
BODIES = (Body(address=("127.0.0.1", 7946)), Body(address=("127.0.0.2", 7946)))

uids = st.sampled_from(UIDS)
any_uids = st.sampled_from((*UIDS, OWN_UID))
rows = st.builds(
    Row,
    any_uids,
    st.integers(1, 3),
    st.integers(0, 3),
    st.sampled_from(State),
    st.sampled_from(BODIES),
)
young = st.builds(AgedRow, rows, st.floats(0.0, CONFIG.row_age_max_s))
aged_rows = st.builds(AgedRow, rows, st.floats(0.0, 2 * CONFIG.tombstone_s))


def _state(table: Table) -> dict[int, tuple[Row, float]]:
    """All that a table says of the peers."""
    return {
        entry.row.uid: (entry.row, table.age_s(START, entry.row.uid)) for entry in table.entries()
    }


def _merged(*batches: list[AgedRow]) -> Table:
    table = a_table()
    for batch in batches:
        told(table, START, batch)
    return table


# -- a join


@given(st.lists(young, max_size=12), st.randoms(use_true_random=False))
def test_any_order_and_any_repetition_gives_the_same(
    batch: list[AgedRow], rng: random.Random
) -> None:
    """Commutative, associative and idempotent: rows, ages and hashes are the same, whatever came
    first, twice, or late."""
    shuffled = [*batch, *batch[::2]]
    rng.shuffle(shuffled)
    straight, crooked = _merged(batch), _merged(shuffled)
    assert _state(straight) == _state(crooked)
    assert straight.hashes(START) == crooked.hashes(START)
    assert straight.fingerprint(START) == crooked.fingerprint(START)
    lists = [(table.present, table.living, table.dead) for table in (straight, crooked)]
    assert lists[0] == lists[1]


@given(st.lists(young, max_size=8), st.lists(young, max_size=8))
def test_two_tables_that_tell_each_other_all_are_equal(
    ones: list[AgedRow], others: list[AgedRow]
) -> None:
    """What passes through a table on its way is as good as what came directly: relaying is part
    of the join."""
    one, other = _merged(ones), _merged(others)
    everything = 2**64 - 1
    for giver, taker in ((one, other), (other, one)):
        told(taker, START, giver.rows_in(START, everything))
    assert _state(one) == _state(other) == _state(_merged(ones, others))


@given(st.lists(aged_rows, max_size=12))
def test_the_hashes_that_are_kept_are_those_that_would_be_computed(batch: list[AgedRow]) -> None:
    """However a table came to its rows, its hashes are those of a table that was told just them."""
    table = _merged(batch)
    fresh = a_table()
    for uid, (row, age_s) in _state(table).items():
        if uid != OWN_UID:
            fresh.merge(START, AgedRow(row, min(age_s, 600.0 if row.state >= State.DEAD else 0.0)))
    for now in (START, START + 250.0, START + 350.0):
        assert table.hashes(now) == fresh.hashes(now)


@given(st.lists(aged_rows, max_size=20))
def test_the_lists_are_those_of_the_rows(batch: list[AgedRow]) -> None:
    """Present, living and dead say what the rows say."""
    table = _merged(batch)
    states = {entry.row.uid: entry.row.state for entry in table.entries()}
    assert list(states) == sorted(states)
    for uids_listed, wanted in (
        (table.present, (State.ALIVE, State.SUSPECT)),
        (table.living, (State.ALIVE,)),
        (table.dead, (State.DEAD,)),
    ):
        assert uids_listed == tuple(uid for uid, state in states.items() if state in wanted)


# -- nothing goes back


class OneTable(RuleBasedStateMachine):
    """Anything that may happen to one table, in any order, while time passes."""

    def __init__(self) -> None:
        super().__init__()
        self.now = START
        self.own = a_row(OWN_UID, epoch=2, incarnation=2)
        self.config = replace(CONFIG, tombstones_min=1)
        self.table = Table(self.config, self.own, self.now)
        self.orders: dict[int, tuple[int, int, int]] = {}

    @rule(passed_s=st.floats(0.0, 700.0))
    def time_passes(self, passed_s: float) -> None:
        self.now += passed_s

    @rule(aged=aged_rows)
    def somebody_tells(self, aged: AgedRow) -> None:
        merged = self.table.merge(self.now, aged)
        entry = self.table.get(aged.row.uid)
        if aged.row.uid == OWN_UID:
            assert merged.outcome in (Outcome.SAME, Outcome.OLDER, Outcome.ABOUT_OWN)
        elif merged.outcome is Outcome.REFUSED:
            assert merged == (Outcome.REFUSED, aged.row, None)
            assert entry is None
        else:
            assert entry is not None
            assert merged.row == entry.row
            assert entry.row.order >= aged.row.order
            assert (merged.before is None) == (merged.outcome is Outcome.NEW)

    @rule(uid=uids, ago_s=st.floats(0.0, 100.0))
    def it_is_heard(self, uid: int, ago_s: float) -> None:
        before = self.table.get(uid)
        age_s = None if before is None else self.table.age_s(self.now, uid)
        self.table.heard(uid, self.now - ago_s)
        if age_s is not None:
            assert self.table.age_s(self.now, uid) <= age_s

    @rule(uid=uids, state=st.sampled_from((State.SUSPECT, State.DEAD)))
    def it_is_declared(self, uid: int, state: State) -> None:
        entry = self.table.get(uid)
        if entry is not None and entry.row.state < state:
            before = entry.row
            assert self.table.declare(self.now, uid, state) == replace(before, state=state)

    @rule()
    def it_contradicts(self) -> None:
        self.own = replace(self.own, incarnation=self.own.incarnation + 1)
        self.table.set_own(self.now, self.own)

    @rule()
    def what_is_over_is_forgotten(self) -> None:
        for row in self.table.forget(self.now):
            assert self.orders.pop(row.uid) == row.order
            assert self.table.get(row.uid) is None

    @invariant()
    def the_own_row_is_its_own(self) -> None:
        entry = self.table.get(OWN_UID)
        assert entry is not None
        assert self.table.own == entry.row == self.own

    @invariant()
    def no_row_goes_back(self) -> None:
        for entry in self.table.entries():
            order = entry.row.order
            assert order >= self.orders.get(entry.row.uid, order)
            self.orders[entry.row.uid] = order
            assert self.table.age_s(self.now, entry.row.uid) >= 0.0


TestOneTable: Any = OneTable.TestCase


# -- no resurrection

VICTIM = 99


class Cemetery:
    """Two peers that hear a third, until it dies; then they declare it dead, tell each other what
    they believe and forget it, in any order. Two are enough: what could bring it back is what one
    still believes and the other has forgotten.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._now = START
        config = GossipConfig(tombstones_min=1)
        self._tables = [Table(config, a_row(uid), START) for uid in range(2)]
        self._dead_orders = [(0, 0, 0), (0, 0, 0)]
        self._incarnation = 0
        self._others_died = 0
        self.forgotten = 0
        self.refused = 0
        for table in self._tables:
            self._hear(table)

    def run(self) -> None:
        """Let anything happen, first while it lives and then when it does not any more."""
        for _ in range(self._rng.randrange(10)):
            self._step(self._hear)
        for _ in range(20):
            self._step(self._declare)

    def _step(self, special: Callable[[Table], None]) -> None:
        do = self._rng.choice((special, self._wait, self._tell, self._forget))
        do(self._rng.choice(self._tables))
        for number, table in enumerate(self._tables):
            entry = table.get(VICTIM)
            if entry is not None and entry.row.state is State.DEAD:
                self._dead_orders[number] = max(entry.row.order, self._dead_orders[number])
            elif entry is not None:
                # Only what it said itself, after that, makes it live again.
                assert entry.row.order > self._dead_orders[number]

    def _hear(self, table: Table) -> None:
        entry = table.get(VICTIM)
        if entry is not None and entry.row.state is not State.ALIVE:
            self._incarnation = max(self._incarnation, entry.row.incarnation + 1)
        table.merge(self._now, AgedRow(a_row(VICTIM, incarnation=self._incarnation), 0.0))

    def _declare(self, table: Table) -> None:
        entry = table.get(VICTIM)
        if entry is not None and entry.row.state < State.DEAD:
            table.declare(self._now, VICTIM, State.DEAD)

    def _wait(self, _: Table) -> None:
        self._now += self._rng.choice((1.0, 5.0, 20.0, 31.0, 61.0, 301.0, 601.0))

    def _tell(self, table: Table) -> None:
        if table.get(VICTIM) is not None:
            (other,) = (one for one in self._tables if one is not table)
            merged = other.merge(self._now, table.aged(self._now, VICTIM))
            self.refused += merged.outcome is Outcome.REFUSED

    def _forget(self, table: Table) -> None:
        for _ in range(self._rng.randrange(3)):
            self._others_died += 1
            other = a_row(VICTIM + self._others_died, state=State.DEAD)
            table.merge(self._now, AgedRow(other, 0.0))
        self.forgotten += VICTIM in {row.uid for row in table.forget(self._now)}


def test_the_dead_stay_dead() -> None:
    """Whatever is forgotten, and whoever still believes otherwise: what a table has once called
    dead lives again in it only by its own word, said after that."""
    forgotten = refused = 0
    for seed in range(3000):
        cemetery = Cemetery(random.Random(seed))
        try:
            cemetery.run()
        except AssertionError as failure:
            raise AssertionError(f"with Cemetery(random.Random({seed}))") from failure
        forgotten += cemetery.forgotten
        refused += cemetery.refused
    # It did come to what this is about.
    assert forgotten > 1000
    assert refused > 1000
