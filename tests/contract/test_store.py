"""What every object store promises, over every store there is.

A store takes part by one line in `STORES`: how to open a fresh, empty one. What only one of them
promises is tested beside this.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from pipeline.errors import BadRequest, PullFailed, PushFailed
from pipeline.ports import ObjectStore, StoredObject
from pipeline.stores.copying import STEP_BYTES
from pipeline.stores.directory import DirectoryStore
from pipeline.stores.s3.config import PART_BYTES_MIN
from pipeline.stores.s3.store import S3Store

OpenStore = Callable[[pytest.FixtureRequest, Path], Awaitable[ObjectStore]]


async def directory_store(request: pytest.FixtureRequest, place: Path) -> ObjectStore:
    return DirectoryStore(place / "store")


async def s3_store(request: pytest.FixtureRequest, place: Path) -> ObjectStore:
    config = request.getfixturevalue("s3_config")
    # The smallest parts that S3 allows: most films of these tests have several.
    store = S3Store(replace(config, prefix="shared/with others", part_bytes=PART_BYTES_MIN))
    request.addfinalizer(store.close)
    await store.prepare()
    return store


STORES: dict[str, OpenStore] = {"directory": directory_store, "s3": s3_store}


@pytest.fixture(params=STORES)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    return await STORES[request.param](request, tmp_path)


@pytest.fixture
def make_file(tmp_path: Path) -> Callable[[bytes], Path]:
    """Make local files with a given content."""
    made: list[Path] = []

    def make(content: bytes) -> Path:
        made.append(tmp_path / f"local-{len(made)}")
        made[-1].write_bytes(content)
        return made[-1]

    return make


class CancelAtStep(trio.abc.Instrument):
    """Cancels a scope when its task, or one that it started, is about to run for the n-th time.

    A task that works in threads runs again whenever one of them is done; so this reaches every
    place at which a call can be cancelled, one after the other.
    """

    def __init__(self, scope: trio.CancelScope, step: int) -> None:
        self._task = trio.lowlevel.current_task()
        self._scope = scope
        self._steps_left = step

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if self._is_ours(task):
            if not self._steps_left:
                self._scope.cancel()
            self._steps_left -= 1

    def _is_ours(self, task: trio.lowlevel.Task) -> bool:
        while task is not self._task and task.parent_nursery is not None:
            task = task.parent_nursery.parent_task
        return task is self._task


async def is_cancelled(step: int, call: Callable[[], Awaitable[object]]) -> bool:
    """Call, cancel at that step, and tell whether the call noticed."""
    with trio.CancelScope() as scope:
        instrument = CancelAtStep(scope, step)
        trio.lowlevel.add_instrument(instrument)
        try:
            await call()
        finally:
            trio.lowlevel.remove_instrument(instrument)
    return scope.cancelled_caught


async def content_of(store: ObjectStore, key: str, place: Path) -> bytes:
    """What a pull brings."""
    target = place / "pulled"
    size = await store.pull(key, target)
    content = target.read_bytes()
    target.unlink()
    assert size == len(content)
    return content


async def keys_of(store: ObjectStore, prefix: str = "") -> list[str]:
    return [stored.key for stored in await store.list(prefix)]


@pytest.mark.parametrize("give", [False, True], ids=["kept", "given"])
@pytest.mark.parametrize("size", [0, 1, STEP_BYTES + 1], ids=["empty", "byte", "two-steps"])
async def test_what_is_pushed_can_be_pulled(
    store: ObjectStore, make_file: Callable[[bytes], Path], tmp_path: Path, size: int, give: bool
) -> None:
    """An object is the file's bytes, and the file itself stays as it was."""
    content = (b"grapevine" * (size // 9 + 1))[:size]
    source = make_file(content)
    await store.push(source, "tasks/1/720p.mp4", give=give)

    assert await content_of(store, "tasks/1/720p.mp4", tmp_path) == content
    assert source.read_bytes() == content


async def test_an_object_outlives_the_file_it_was_given(
    store: ObjectStore, make_file: Callable[[bytes], Path], tmp_path: Path
) -> None:
    """The caller may remove a file that it has given away."""
    source = make_file(b"film")
    await store.push(source, "film", give=True)
    source.unlink()

    assert await content_of(store, "film", tmp_path) == b"film"


async def test_an_object_is_no_part_of_a_file_that_was_kept(
    store: ObjectStore, make_file: Callable[[bytes], Path], tmp_path: Path
) -> None:
    """Writing to the file afterwards changes nothing in the store, nor does writing to a pull."""
    source = make_file(b"film")
    await store.push(source, "film")
    source.write_bytes(b"FILM")
    await store.pull("film", tmp_path / "mine")
    (tmp_path / "mine").write_bytes(b"mine")

    assert await content_of(store, "film", tmp_path) == b"film"


@pytest.mark.parametrize("give", [False, True], ids=["kept", "given"])
async def test_a_push_replaces(
    store: ObjectStore, make_file: Callable[[bytes], Path], tmp_path: Path, give: bool
) -> None:
    """The last push wins; repeating one, as after a doubtful failure, is harmless."""
    new = make_file(b"new")
    await store.push(make_file(b"the old one"), "film", give=give)
    await store.push(new, "film", give=give)
    await store.push(new, "film", give=give)

    assert await content_of(store, "film", tmp_path) == b"new"
    assert await keys_of(store) == ["film"]


async def test_pulling_what_is_not_there(store: ObjectStore, tmp_path: Path) -> None:
    """A missing object is a permanent failure, and leaves no file."""
    for key in ("nothing", "no/such/folder/film.mp4"):
        with pytest.raises(PullFailed, match="there is no object") as failure:
            await store.pull(key, tmp_path / "target")
        assert failure.value.code == "no_such_object"
        assert failure.value.permanent
    assert not (tmp_path / "target").exists()


async def test_pulling_over_a_file(
    store: ObjectStore, make_file: Callable[[bytes], Path], tmp_path: Path
) -> None:
    """A pull makes a new file and never writes over one."""
    await store.push(make_file(b"film"), "film")
    mine = make_file(b"mine")
    with pytest.raises(PullFailed) as failure:
        await store.pull("film", mine)
    with pytest.raises(PullFailed) as elsewhere:
        await store.pull("film", tmp_path / "no-such-folder" / "film")

    assert failure.value.code == "target_exists"
    assert mine.read_bytes() == b"mine"
    assert elsewhere.value.code == "no_such_file"
    assert not elsewhere.value.permanent


@pytest.mark.parametrize("give", [False, True], ids=["kept", "given"])
async def test_pushing_what_is_not_there(store: ObjectStore, tmp_path: Path, give: bool) -> None:
    """A missing local file is a failure, and makes no object."""
    with pytest.raises(PushFailed) as failure:
        await store.push(tmp_path / "nothing", "film", give=give)

    assert failure.value.code == "no_such_file"
    assert await keys_of(store) == []


async def test_listing(store: ObjectStore, make_file: Callable[[bytes], Path]) -> None:
    """By key, with sizes; a prefix means whole segments, with or without a slash."""
    keys = ["b", "tasks/1/a/360p.mp4", "tasks/1/master.m3u8", "tasks/10/x", "a é/ü.mp4"]
    for number, key in enumerate(keys):
        await store.push(make_file(b"x" * number), key)

    found = await store.list("tasks/1")
    everything = await keys_of(store)

    assert found == [
        StoredObject(key="tasks/1/a/360p.mp4", size=1, url=store.url("tasks/1/a/360p.mp4")),
        StoredObject(key="tasks/1/master.m3u8", size=2, url=store.url("tasks/1/master.m3u8")),
    ]
    assert await store.list("tasks/1/") == found
    assert everything == sorted(keys)
    assert await keys_of(store, "tasks/1/master.m3u8") == ["tasks/1/master.m3u8"]
    assert await keys_of(store, "tasks/2") == []
    assert store.url("b").endswith("b")


async def test_removing(store: ObjectStore, make_file: Callable[[bytes], Path]) -> None:
    """A prefix's objects are gone and counted, others stay, and a repeat finds nothing."""
    for key in ("tasks/1/a/x", "tasks/1/y", "tasks/10/z", "alone"):
        await store.push(make_file(b"x"), key)

    assert await store.remove("tasks/1") == 2
    assert await keys_of(store) == ["alone", "tasks/10/z"]
    assert await store.remove("tasks/1") == 0
    assert await store.remove("alone") == 1
    assert await keys_of(store) == ["tasks/10/z"]
    with pytest.raises(BadRequest, match="empty prefix"):
        await store.remove("")


@pytest.mark.parametrize(
    "key", ["../x", "/etc/passwd", "a//b", "a/./b", ".incoming/x", "a\0b", "x/"]
)
async def test_bad_keys(
    store: ObjectStore, make_file: Callable[[bytes], Path], tmp_path: Path, key: str
) -> None:
    """No method takes a key that could mean something outside."""
    with pytest.raises(BadRequest):
        await store.push(make_file(b"x"), key)
    with pytest.raises(BadRequest):
        await store.pull(key, tmp_path / "target")
    if not key.endswith("/"):
        with pytest.raises(BadRequest):
            await store.list(key)
        with pytest.raises(BadRequest):
            await store.remove(key)
        with pytest.raises(BadRequest):
            store.url(key)
    assert await keys_of(store) == []


@pytest.mark.parametrize("give", [False, True], ids=["kept", "given"])
async def test_a_cancelled_push_leaves_nothing(
    store: ObjectStore, make_file: Callable[[bytes], Path], give: bool
) -> None:
    """Wherever a push is cancelled, its object is there whole or not at all."""
    source = make_file(b"x" * (STEP_BYTES + 1))
    step, cancelled = 0, True
    while cancelled:
        cancelled = await is_cancelled(step, lambda: store.push(source, "film", give=give))
        sizes = [stored.size for stored in await store.list("")]
        await store.remove("film")
        step += 1

        assert sizes in ([], [STEP_BYTES + 1])
    assert sizes
    assert step > 2


async def test_a_push_tells_how_far_it_is(
    store: ObjectStore, make_file: Callable[[bytes], Path]
) -> None:
    """Whoever waits for a long copy sees it grow, up to the file's size, and never fall."""
    told: list[int] = []

    async def report(copied: int) -> None:
        told.append(copied)

    await store.push(make_file(b"x" * (2 * STEP_BYTES + 1)), "film", report=report)

    assert len(told) >= 3
    assert told == sorted(told)
    assert (0 < told[0] < told[-1], told[-1]) == (True, 2 * STEP_BYTES + 1)


async def test_a_cancelled_pull_leaves_nothing(
    store: ObjectStore, make_file: Callable[[bytes], Path], tmp_path: Path
) -> None:
    """Wherever a pull is cancelled, no half file stays behind."""
    await store.push(make_file(b"x" * (STEP_BYTES + 1)), "film")
    target = tmp_path / "target"
    step = 0
    while await is_cancelled(step, lambda: store.pull("film", target)):
        assert not target.exists()
        step += 1

    assert target.stat().st_size == STEP_BYTES + 1
    assert step > 5


async def test_concurrent_pushes_to_one_key(
    store: ObjectStore, make_file: Callable[[bytes], Path], tmp_path: Path
) -> None:
    """Readers see one version or another, whole, while writers replace it and others remove."""
    versions = [make_file(bytes([number]) * 100_000) for number in range(4)]
    await store.push(versions[0], "tasks/film")

    async def write(source: Path) -> None:
        for _ in range(5):
            await store.push(source, "tasks/film")
            await store.push(source, "beside/film")
            await store.remove("beside")

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            for source in versions:
                nursery.start_soon(write, source)
            for _ in range(20):
                content = await content_of(store, "tasks/film", tmp_path)
                assert len(content) == 100_000
                assert len(set(content)) == 1
    assert await keys_of(store) == ["tasks/film"]
