"""A store is used only while it is the cluster's: the same over every store, with a real ledger.

Each test has places, `a` and `b`, in which there is nothing at first; to open one twice is what two
peers do.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import trio

from pipeline import marking
from pipeline.errors import LedgerUnavailable, PullFailed, StoreUnavailable, WrongStore
from pipeline.ledger.database import Database, DatabaseConfig
from pipeline.ledger.postgres import PostgresLedger
from pipeline.mark import Belonging, Mark, decode, encode
from pipeline.marking import Markable, MarkedStore
from pipeline.stores.directory import DirectoryStore
from pipeline.stores.s3.store import S3Store
from pipeline.tasks import Product, ProductKind
from tests.conftest import Databases
from tests.ledger_rig import MakePeer

OpenPlace = Callable[[str], Awaitable[Markable]]


@pytest.fixture(params=["directory", "s3"])
def open_place(request: pytest.FixtureRequest, tmp_path: Path) -> OpenPlace:
    """Open the store in a place."""

    async def open_directory(place: str) -> Markable:
        (tmp_path / place).mkdir(exist_ok=True)
        return DirectoryStore(tmp_path / place, create=False)

    async def open_prefix(place: str) -> Markable:
        config = request.getfixturevalue("s3_config")
        store = S3Store(replace(config, prefix=place))
        request.addfinalizer(store.close)
        await store.prepare()
        return store

    return open_directory if request.param == "directory" else open_prefix


class Register:
    """The ledger as one peer sees it, for whom it may be away."""

    def __init__(self, ledger: PostgresLedger) -> None:
        self.ledger = ledger
        self.away = False
        self.draw_first_mark = ledger.draw_first_mark
        self.draw_mark = ledger.draw_mark
        self.confirm_mark = ledger.confirm_mark

    async def belonging(self) -> Belonging:
        if self.away:
            raise LedgerUnavailable("it is away", definite=True)
        return await self.ledger.belonging()


@pytest.fixture
async def another_cluster(
    databases: Databases, make_ledger: Callable[[Database], PostgresLedger]
) -> AsyncIterator[PostgresLedger]:
    """The ledger of somebody else."""
    url = databases.create()  # a copy of one that was migrated would be the same cluster
    database = Database(DatabaseConfig(conninfo=url))
    ledger = make_ledger(database)
    await ledger.prepare()
    yield ledger
    await database.aclose()
    databases.drop(url)


async def outcome(call: Callable[[], Awaitable[Any]]) -> str:
    """How a call ends, in a word."""
    try:
        await call()
    except StoreUnavailable as error:
        return "wrong" if isinstance(error, WrongStore) else "untold"
    return "well"


async def test_the_first_store_becomes_the_clusters(
    open_place: OpenPlace, ledger: PostgresLedger, tmp_path: Path
) -> None:
    """It is marked, and so belongs to every peer that opens it. The mark is no object."""
    store = MarkedStore(await open_place("a"), ledger)
    assert await store.list("") == []
    raw = await open_place("a")
    content = await raw.read_mark()
    belonging = await ledger.belonging()

    assert content is not None
    assert decode(content) == belonging.mark
    assert (belonging.number, belonging.url) == (1, raw.url(""))
    assert belonging.marked_at is not None
    assert await raw.list("") == []
    (tmp_path / "film").write_bytes(b"film")
    await store.push(tmp_path / "film", "tasks/1/film")
    other_peer = MarkedStore(raw, ledger)
    assert await other_peer.pull("tasks/1/film", tmp_path / "pulled") == 4
    assert await other_peer.remove("tasks") == 1
    assert await other_peer.sweep(0.0) == 0
    assert await raw.read_mark() == content
    assert await ledger.belonging() == belonging


async def test_an_empty_store_is_not_the_clusters(
    open_place: OpenPlace, ledger: PostgresLedger, tmp_path: Path
) -> None:
    """No call reads or writes it, and it is not marked; what was expected is said."""
    right, empty = await open_place("a"), await open_place("b")
    await MarkedStore(right, ledger).check()
    store = MarkedStore(empty, ledger)
    (tmp_path / "film").write_bytes(b"film")
    calls: list[Callable[[], Awaitable[object]]] = [
        store.check,
        lambda: store.pull("film", tmp_path / "pulled"),
        lambda: store.push(tmp_path / "film", "film"),
        lambda: store.list(""),
        lambda: store.remove("tasks"),
        lambda: store.sweep(0.0),
    ]
    for call in calls:
        with pytest.raises(WrongStore) as failure:
            await call()
        assert empty.url("") in failure.value.message
        assert right.url("") in failure.value.message
        assert failure.value.definite

    assert await empty.list("") == []
    assert await empty.read_mark() is None
    assert store.url("film") == empty.url("film")


async def test_a_store_of_another_cluster(
    open_place: OpenPlace, ledger: PostgresLedger, another_cluster: PostgresLedger
) -> None:
    """It is theirs, also for a cluster that has none yet; and it stays theirs."""
    await MarkedStore(await open_place("a"), another_cluster).check()
    with pytest.raises(WrongStore, match="that of the cluster"):
        await MarkedStore(await open_place("a"), ledger).check()
    await MarkedStore(await open_place("a"), another_cluster).check()


async def test_a_mark_that_cannot_be_read(open_place: OpenPlace, ledger: PostgresLedger) -> None:
    """Somebody has written over it: nobody guesses what it was."""
    raw = await open_place("a")
    await raw.write_mark(b"something else")
    with pytest.raises(WrongStore, match="cannot be read"):
        await MarkedStore(raw, ledger).check()
    assert await raw.read_mark() == b"something else"


async def test_peers_that_start_at_once_agree(
    open_place: OpenPlace, ledger: PostgresLedger
) -> None:
    """Of two stores one becomes the cluster's, whoever comes first; it is the same for all."""
    peers = [(place, MarkedStore(await open_place(place), ledger)) for place in "abababab"]
    outcomes: dict[str, set[str]] = {"a": set(), "b": set()}

    async def start(place: str, store: MarkedStore) -> None:
        told = "untold"
        with trio.fail_after(20):
            while told == "untold":  # somebody is marking just now
                told = await outcome(store.check)
        outcomes[place].add(told)

    async with trio.open_nursery() as nursery:
        for place, store in peers:
            nursery.start_soon(start, place, store)

    assert sorted(map(sorted, outcomes.values())) == [["well"], ["wrong"]]


@pytest.mark.parametrize("back", ["a", "b"], ids=["same-store", "other-store"])
async def test_a_peer_that_dies_while_it_marks(
    open_place: OpenPlace, ledger: PostgresLedger, back: str
) -> None:
    """It has marked a store and not come to say so. The next one says so for it; where that has
    another store and its time is over, the one that was marked never counts."""
    raw = await open_place("a")
    number = await ledger.draw_first_mark(0.0)
    assert number == 1
    await raw.write_mark(encode(Mark(cluster=(await ledger.belonging()).cluster, number=number)))
    await MarkedStore(await open_place(back), ledger).check()

    expected = {"a": "well" if back == "a" else "wrong", "b": "well" if back == "b" else "wrong"}
    assert {
        place: await outcome(MarkedStore(await open_place(place), ledger).check) for place in "ab"
    } == expected
    assert await ledger.confirm_mark(1, raw.url("")) == (back == "a"), "late, or said again"
    assert await outcome(MarkedStore(raw, ledger).check) == expected["a"]


async def test_a_cluster_that_is_older_than_marks(
    open_place: OpenPlace,
    ledger: PostgresLedger,
    task_id: UUID,
    make_peer: MakePeer,
    tmp_path: Path,
) -> None:
    """It has made something, and only a store that has it becomes its first one by itself."""
    ada = make_peer("ada")
    claim = await ada.take(ledger, task_id)
    (tmp_path / "poster").write_bytes(b"p")
    await (await open_place("a")).push(tmp_path / "poster", f"{claim.prefix}/poster.jpg")
    poster = Product(kind=ProductKind.POSTER, name="poster.jpg", size=1)
    await ledger.finish(claim, [poster], [], ada.finished(task_id))

    with pytest.raises(WrongStore, match=f"does not have {claim.prefix}/poster.jpg"):
        await MarkedStore(await open_place("b"), ledger).check()
    assert await (await open_place("b")).read_mark() is None
    await MarkedStore(await open_place("a"), ledger).check()
    assert (await ledger.belonging()).number == 1


async def test_one_at_a_time_marks_the_first_store(
    open_place: OpenPlace, ledger: PostgresLedger
) -> None:
    """While somebody has time left to do it, the others wait; afterwards anybody may."""
    store = MarkedStore(await open_place("a"), ledger)
    assert await ledger.draw_first_mark(60.0) == 1
    with pytest.raises(StoreUnavailable, match="another peer is marking") as failure:
        await store.check()
    assert not isinstance(failure.value, WrongStore)
    assert await ledger.draw_first_mark(60.0) is None


async def test_a_cluster_moves(
    open_place: OpenPlace, ledger: PostgresLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who still uses the store that was left finds out, and who says it twice changes nothing. It
    may move back."""
    monkeypatch.setattr(marking, "TRUST_S", 0.0)
    old, new = [MarkedStore(await open_place(place), ledger) for place in "ab"]
    await old.check()

    async def outcomes() -> list[str]:
        return [await outcome(partial(store.list, "")) for store in (old, new)]

    assert await new.adopt()
    assert await outcomes() == ["wrong", "well"]
    assert not await new.adopt()
    assert (await ledger.belonging()).number == 2
    assert await old.adopt()
    assert await outcomes() == ["well", "wrong"]


async def test_the_store_of_a_lost_ledger_is_adopted(
    open_place: OpenPlace, ledger: PostgresLedger, another_cluster: PostgresLedger
) -> None:
    """A new ledger is another cluster; its first store may be one that was marked."""
    await MarkedStore(await open_place("a"), another_cluster).check()
    store = MarkedStore(await open_place("a"), ledger)
    assert await outcome(store.check) == "wrong"
    assert await store.adopt()
    assert await outcome(store.check) == "well"


async def test_two_stores_adopted_at_once(open_place: OpenPlace, ledger: PostgresLedger) -> None:
    """One of them counts, and who lost is told so."""
    await MarkedStore(await open_place("a"), ledger).check()
    raw, other = await open_place("b"), await open_place("c")

    async def interrupted(content: bytes) -> None:
        await MarkedStore(other, ledger).adopt()
        await write(content)

    write, raw.write_mark = raw.write_mark, interrupted  # type: ignore[method-assign] # a moment
    with pytest.raises(StoreUnavailable, match="look which one is right"):
        await MarkedStore(raw, ledger).adopt()

    stores = {place: MarkedStore(await open_place(place), ledger) for place in "abc"}
    assert {place: await outcome(stores[place].check) for place in "abc"} == {
        "a": "wrong",
        "b": "wrong",
        "c": "well",
    }


async def test_what_is_missing(
    open_place: OpenPlace, ledger: PostgresLedger, tmp_path: Path
) -> None:
    """The store was right a moment ago. That an object is not in it is believed only after another
    look: its disk may have gone."""
    raw = await open_place("a")
    store = MarkedStore(raw, ledger)
    with pytest.raises(PullFailed) as failure:
        await store.pull("sources/1/film", tmp_path / "pulled")
    assert (failure.value.code, failure.value.permanent) == ("no_such_object", True)

    mark = await raw.read_mark()
    assert mark is not None
    await raw.write_mark(encode(Mark(cluster=uuid4(), number=1)))
    assert await outcome(lambda: store.list("")) == "well", "it is trusted for a while"
    with pytest.raises(WrongStore):
        await store.pull("sources/1/film", tmp_path / "pulled")
    assert await outcome(lambda: store.list("")) == "wrong", "and then not at all"

    await raw.write_mark(mark)
    assert await outcome(lambda: store.list("")) == "well"


async def test_without_the_ledger(
    open_place: OpenPlace, ledger: PostgresLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it said last holds while it is away; who has not asked it yet knows nothing."""
    monkeypatch.setattr(marking, "TRUST_S", 0.0)
    raw, register = await open_place("a"), Register(ledger)
    store = MarkedStore(raw, register)
    await store.check()
    mark = await raw.read_mark()
    register.away = True

    assert await outcome(lambda: store.list("")) == "well"
    with pytest.raises(StoreUnavailable, match="only the ledger can tell"):
        await MarkedStore(raw, register).list("")
    await raw.write_mark(encode(Mark(cluster=uuid4(), number=1)))
    assert await outcome(lambda: store.list("")) == "wrong"
    assert mark is not None
    await raw.write_mark(mark)
    assert await outcome(lambda: store.list("")) == "well"


class Silent(DirectoryStore):
    """A disk whose server has gone."""

    async def read_mark(self) -> bytes | None:
        await trio.sleep_forever()
        raise AssertionError


async def test_a_store_that_is_silent(
    ledger: PostgresLedger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for it for long."""
    monkeypatch.setattr(marking, "LOOK_WITHIN_S", 0.05)
    with pytest.raises(StoreUnavailable, match=r"does not show its mark within 0\.05 s"):
        await MarkedStore(Silent(tmp_path), ledger).list("")
