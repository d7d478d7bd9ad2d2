"""Digests and pages: what is sent of two tables that differ, and that they end equal."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import chain, count, pairwise

import pytest

from gossip import sync
from gossip.codec import decode_untrusted, encode, row_bytes
from gossip.messages import Digest, Message, Page
from gossip.rows import AgedRow, Body, Row, State
from gossip.table import Outcome, Table
from tests.tables import OWN_UID, START, a_row, a_table, told

LIMIT_BYTES = 1150
PAGES_MAX = 3
EVERYTHING = Page(buckets=2**64 - 1, first=(0, 0), last=(63, 2**64 - 1), answer=True, rows=())
BODY = Body(address=("10.11.12.13", 7946), name="peer.7", node="node-3", container="0123456789ab")


def _asked(
    table: Table,
    digest: Digest,
    rng: random.Random,
    *,
    now: float = START,
    limit_bytes: int = LIMIT_BYTES,
    pages_max: int = PAGES_MAX,
) -> list[Page]:
    return sync.answer_digest(table, now, digest, rng, row_bytes, limit_bytes, pages_max)


def _answered(
    table: Table,
    page: Page,
    rng: random.Random,
    *,
    now: float = START,
    limit_bytes: int = LIMIT_BYTES,
    pages_max: int = PAGES_MAX,
) -> list[Page]:
    return sync.answer_page(table, now, page, rng, row_bytes, limit_bytes, pages_max)


def _exchange(asker: Table, answerer: Table, rng: random.Random, *, loss: float = 0.0) -> int:
    """Let one digest be answered, and the pages; return how many datagrams it took."""
    sent = 0

    def arrives(message: Message) -> bool:
        nonlocal sent
        sent += 1
        body = encode(message)
        assert len(body) <= LIMIT_BYTES
        assert decode_untrusted(body) == message
        return rng.random() >= loss

    digest = sync.digest(asker, START)
    if not arrives(digest):
        return sent
    for page in filter(arrives, _asked(answerer, digest, rng)):
        told(asker, START, page.rows)
        for answer in filter(arrives, _answered(asker, page, rng)):
            assert not answer.answer
            told(answerer, START, answer.rows)
    return sent


def _rows(number: int, seed: int) -> Iterator[Row]:
    rng = random.Random(seed)
    return (a_row(rng.getrandbits(64), body=BODY) for _ in range(number))


def _equal(one: Table, other: Table) -> bool:
    return one.fingerprint(START) == other.fingerprint(START)


# -- one exchange


def test_equal_tables_have_nothing_to_say() -> None:
    """One digest is all that it costs; ages are no difference."""
    one, other = (a_table(*_rows(100, seed=1), age_s=age_s) for age_s in (1.0, 20.0))
    assert _asked(one, sync.digest(other, START), random.Random(1)) == []


def test_a_digest_counts_the_members() -> None:
    """Its reader sees how much the asker knows."""
    table = a_table(a_row(1), a_row(2, state=State.SUSPECT), a_row(3, state=State.DEAD))
    assert sync.digest(table, START) == Digest(count=3, hashes=table.hashes(START))


@pytest.mark.parametrize("number", [1, 2, 30])
def test_one_exchange_makes_small_tables_equal(number: int) -> None:
    """In both directions at once: each learns what only the other knew, and who has less does not
    matter."""
    rng = random.Random(number)
    mine = a_table(*_rows(number, seed=1), *_rows(3, seed=3), own_uid=1 << 60)
    theirs = a_table(*_rows(number // 2, seed=2), *_rows(3, seed=3), own_uid=2 << 60)
    assert not _equal(mine, theirs)
    _exchange(mine, theirs, rng)
    assert _equal(mine, theirs)
    assert len(mine) == len(theirs) == number + number // 2 + 5


@pytest.mark.parametrize("swapped", [False, True])
def test_the_newer_of_two_rows_goes_over(swapped: bool) -> None:
    """Whichever side it is on."""
    old = a_table(a_row(7))
    new = a_table(a_row(7, incarnation=3, state=State.SUSPECT))
    asker, answerer = (new, old) if swapped else (old, new)
    _exchange(asker, answerer, random.Random(1))
    entry = old.get(7)
    assert entry is not None
    assert entry.row == a_row(7, incarnation=3, state=State.SUSPECT)
    assert _equal(old, new)


def test_only_differing_buckets_are_sent() -> None:
    """A hundred equal rows cost nothing because of one that differs."""
    rows = list(_rows(100, seed=1))
    changed = rows[50]
    mine = a_table(*rows, a_row(changed.uid, incarnation=1, body=BODY))
    (page,) = _asked(mine, sync.digest(a_table(*rows), START), random.Random(1))
    bucket = changed.uid >> 58
    assert page.buckets == 1 << bucket
    assert (page.first, page.last) == ((bucket, bucket << 58), (bucket, (bucket + 1 << 58) - 1))
    assert {aged.row.uid >> 58 for aged in page.rows} == {bucket}


@pytest.mark.parametrize("seed", range(4))
def test_an_empty_bucket_is_asked_for(seed: int) -> None:
    """Who knows nothing of a bucket sends a page without rows for it, and gets them."""
    mine, theirs = a_table(), a_table(a_row(9), a_row(62 << 58))
    pages = _asked(mine, sync.digest(theirs, START), random.Random(seed))
    asked = 0
    for page in pages:
        assert (page.answer, page.rows) == (True, ())
        assert not asked & page.buckets
        asked |= page.buckets
    assert asked == 1 << 62 | 1
    answers = [answer for page in pages for answer in _answered(theirs, page, random.Random(seed))]
    told(mine, START, [aged for answer in answers for aged in answer.rows])
    assert _equal(mine, theirs)


def test_what_was_just_learned_is_not_sent_back() -> None:
    """Before the page is merged or after: the answer is the same."""
    theirs = a_table(*_rows(20, seed=1), own_uid=1)
    mine = a_table(*_rows(20, seed=2), own_uid=2)
    for page in _asked(theirs, sync.digest(mine, START), random.Random(1)):
        before = _answered(mine, page, random.Random(1))
        told(mine, START, page.rows)
        after = _answered(mine, page, random.Random(1))
        assert before == after != []
        sent = {aged.row.uid for answer in after for aged in answer.rows}
        assert sent.isdisjoint(aged.row.uid for aged in page.rows)


# -- pages


def _check_pages(pages: list[Page], table: Table) -> None:
    """Each page holds all rows of its stretch, and no two stretches touch the same uid."""
    for page in pages:
        assert len(encode(page)) <= LIMIT_BYTES
        assert page.first <= page.last
        assert all(place[0] == place[1] >> 58 for place in (page.first, page.last))
        assert list(page.rows) == [
            aged
            for aged in table.rows_in(START, page.buckets)
            if page.first[1] <= aged.row.uid <= page.last[1]
        ]
    ordered = sorted(pages, key=lambda page: page.first)
    for page, following in pairwise(ordered):
        assert page.last < following.first


@pytest.mark.parametrize("number", [10, 100, 1000, 3000])
@pytest.mark.parametrize("pages_max", [1, 3, 1000])
def test_pages_are_full_and_complete(number: int, pages_max: int) -> None:
    """As many as may be, each as full as may be and complete for the stretch that it names."""
    table = a_table(*_rows(number, seed=number))
    digest = sync.digest(a_table(), START)
    for seed in range(10):
        pages = _asked(table, digest, random.Random(seed), pages_max=pages_max)
        _check_pages(pages, table)
        assert len(pages) <= pages_max
        if pages_max == 1000:
            sent = {aged.row.uid for page in pages for aged in page.rows}
            assert sent | {OWN_UID} == {entry.row.uid for entry in table.entries()}
        if number >= 1000:
            # All but the last, and the one before the walk begins again below, are full.
            wasted = sorted(LIMIT_BYTES - len(encode(page)) for page in pages)
            assert all(waste < 160 for waste in wasted[: max(1, len(pages) - 2)])


@pytest.mark.parametrize("number", [100, 1000])
def test_repeated_pages_come_to_every_row(number: int) -> None:
    """Also when one bucket alone is more than what may be sent at once."""
    rng = random.Random(number)
    crowded = [a_row(5 << 58 | uid, body=BODY) for uid in range(number)]
    table = a_table(*crowded)
    digest = sync.digest(a_table(), START)
    seen: set[int] = set()
    for exchanges in count(1):
        pages = _asked(table, digest, rng)
        _check_pages(pages, table)
        seen.update(aged.row.uid for page in pages for aged in page.rows)
        if len(seen) == number:
            break
        assert exchanges < number
    assert len(seen) == number


def test_pages_begin_anywhere() -> None:
    """Several who are asked at once send different pages, and nothing that its reader refuses again
    and again keeps the rest from coming."""
    table = a_table(*_rows(1000, seed=1))
    digest = sync.digest(a_table(), START)
    begun = [_asked(table, digest, random.Random(seed))[0].first[0] for seed in range(100)]
    assert len(set(begun)) > 40


def test_answers_that_do_not_fit_come_in_turns() -> None:
    """Who is asked for everything sends a few pages of it, others each time."""
    table = a_table(*_rows(150, seed=1))
    seen: set[int] = set()
    for seed in range(60):
        pages = _answered(table, EVERYTHING, random.Random(seed))
        assert len(pages) == PAGES_MAX
        assert all(len(encode(answer)) <= LIMIT_BYTES for answer in pages)
        seen.update(aged.row.uid for answer in pages for aged in answer.rows)
    assert seen == {entry.row.uid for entry in table.entries()}


# -- ages


@pytest.mark.parametrize(
    ("state", "age_s", "sent"),
    [
        (State.ALIVE, 30.0, True),
        (State.ALIVE, 31.0, False),
        (State.SUSPECT, 31.0, False),
        (State.DEAD, 31.0, True),
        (State.LEFT, 299.0, True),
        (State.LEFT, 301.0, False),
    ],
)
def test_what_would_be_refused_is_not_sent_in_answer(
    state: State, age_s: float, sent: bool
) -> None:
    """A living row of a peer that the reader does not know, too old to be believed; and what no
    digest shows."""
    mine = a_table(a_row(7, state=state))
    pages = _answered(mine, EVERYTHING, random.Random(1), now=START + age_s)
    uids = [aged.row.uid for page in pages for aged in page.rows]
    assert (7 in uids) == sent
    assert mine.own.uid in uids


@pytest.mark.parametrize("state", [State.ALIVE, State.DEAD])
def test_a_row_that_beats_one_of_the_page_is_sent_at_any_age(state: State) -> None:
    """Its reader knows the peer, and will believe it: the death of one that it took for alive."""
    beating = a_row(7, incarnation=1, state=state)
    mine = a_table(beating)
    page = Page(
        buckets=1,
        first=(0, 0),
        last=(0, 2**58 - 1),
        answer=True,
        rows=(AgedRow(a_row(7), 400.0),),
    )
    (answer,) = _answered(mine, page, random.Random(1), now=START + 400.0)
    assert answer.rows == (AgedRow(beating, 400.0),)


def test_a_ghost_is_laid() -> None:
    """A peer was away while another died, and still has it alive; the death is long out of all
    digests, but not forgotten. When somebody who remembers asks, the dead one is dead."""
    now = START + 400.0
    away = a_table(a_row(7), own_uid=1 << 60)
    home = a_table(a_row(7, state=State.DEAD), own_uid=2 << 60)
    rng = random.Random(1)
    for page in _asked(away, sync.digest(home, now), rng, now=now):
        told(home, now, page.rows)
        for answer in _answered(home, page, rng, now=now):
            told(away, now, answer.rows)
    assert away.dead == home.dead == (7,)
    assert away.fingerprint(now) == home.fingerprint(now)


def test_the_unknown_and_old_is_refused_by_who_gets_it() -> None:
    """A page holds it, so that its reader can contradict; who cannot does not believe it."""
    away = a_table(a_row(7))
    home = a_table()
    now = START + 400.0
    (page,) = _asked(away, sync.digest(home, now), random.Random(1), now=now)
    (aged,) = page.rows
    assert aged == AgedRow(a_row(7), 400.0)
    assert home.merge(now, aged).outcome is Outcome.REFUSED


# -- many exchanges


@pytest.mark.parametrize(("number", "exchanges_max"), [(100, 5), (1000, 40), (3000, 260)])
def test_who_knows_nothing_soon_knows_everything(number: int, exchanges_max: int) -> None:
    """A new peer asks again and again; what it has in full, it is not sent again."""
    rng = random.Random(number)
    full = a_table(*_rows(number, seed=7), own_uid=1)
    new = a_table(own_uid=2)
    for exchanges in count(1):
        _exchange(new, full, rng)
        if _equal(new, full):
            break
        assert exchanges < exchanges_max
    assert len(new) == number + 2


@pytest.mark.parametrize("loss", [0.0, 0.3, 0.6])
@pytest.mark.parametrize("seed", range(5))
def test_any_two_tables_end_equal(seed: int, loss: float) -> None:
    """Whatever each knows, whoever asks, and whatever gets lost on the way."""
    rng = random.Random(seed)
    rows = [
        a_row(
            rng.getrandbits(64) if rng.random() < 0.7 else rng.getrandbits(12) << 52,
            epoch=rng.randint(1, 3),
            incarnation=rng.randint(0, 3),
            state=rng.choice(list(State)),
            body=BODY,
        )
        for _ in range(400)
    ]
    newer = [
        a_row(row.uid, epoch=row.epoch, incarnation=row.incarnation + 1, body=BODY)
        for row in rows[:100]
    ]
    one = a_table(*rows[:300], own_uid=1)
    other = a_table(*chain(rows[100:], newer), own_uid=2)
    for exchanges in count(1):
        asker, answerer = (one, other) if rng.random() < 0.5 else (other, one)
        _exchange(asker, answerer, rng, loss=loss)
        if _equal(one, other):
            break
        assert exchanges < 60 / (1 - loss) ** 3
    assert [entry.row for entry in one.entries()] == [entry.row for entry in other.entries()]
