"""What only the directory store must see to: links, kills, full disks, and folders."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from pipeline.errors import PullFailed, PushFailed, StoreUnavailable
from pipeline.stores.copying import STEP_BYTES, Copy
from pipeline.stores.directory import DirectoryStore
from pipeline.stores.tree import Tree
from tests.missing import do_without


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(root: Path) -> DirectoryStore:
    return DirectoryStore(root)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(b"film")
    return path


def names(folder: Path) -> list[str]:
    """What lies in a folder; nothing when there is none."""
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def incoming(root: Path) -> list[str]:
    """What is not complete, or was left over."""
    return names(root / ".incoming")


@pytest.mark.parametrize("give", [False, True], ids=["kept", "given"])
async def test_nothing_but_the_object_stays(
    store: DirectoryStore, root: Path, source: Path, give: bool
) -> None:
    """After a push `.incoming` is empty, also when the same file is given twice."""
    await store.push(source, "a/film", give=give)
    await store.push(source, "a/film", give=give)

    assert incoming(root) == []
    assert (root / "a/film").read_bytes() == b"film"
    assert (root / "a/film").samefile(source) == give


async def test_a_given_link_is_copied(store: DirectoryStore, root: Path, tmp_path: Path) -> None:
    """A symbolic link to a file stands for the file; the store never keeps a link."""
    (tmp_path / "film").write_bytes(b"film")
    (tmp_path / "link").symlink_to(tmp_path / "film")
    await store.push(tmp_path / "link", "film", give=True)

    assert not (root / "film").is_symlink()
    assert not (root / "film").samefile(tmp_path / "film")


@pytest.mark.parametrize("function", ["link", "copy_file_range"])
async def test_other_file_systems(
    store: DirectoryStore,
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    function: str,
) -> None:
    """Where the kernel cannot link or copy between two file systems, it is done in another way."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(os, function, refuse)
    content = os.urandom(STEP_BYTES + 1)
    (tmp_path / "large").write_bytes(content)
    await store.push(tmp_path / "large", "film", give=function == "link")

    assert (root / "film").read_bytes() == content
    assert not (root / "film").samefile(tmp_path / "large")


@pytest.mark.parametrize("key", ["link", "link/secret", "inner/link/secret"])
async def test_links_are_not_followed(
    store: DirectoryStore, root: Path, source: Path, tmp_path: Path, key: str
) -> None:
    """No method reaches what lies behind a symbolic link in the store."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    place = root / key.removesuffix("/secret")
    place.parent.mkdir(parents=True)
    place.symlink_to(outside if key.endswith("secret") else outside / "secret")

    with pytest.raises(PullFailed) as pull:
        await store.pull(key, tmp_path / "target")
    listed = await store.list("")
    if key.endswith("secret"):
        with pytest.raises(PushFailed) as push:
            await store.push(source, key)
        assert push.value.code == "symbolic_link"
        assert push.value.permanent
    else:
        await store.push(source, key)  # replaces the link itself
        assert not place.is_symlink()

    assert pull.value.code == "symbolic_link"
    assert listed == []
    assert (outside / "secret").read_text() == "secret"
    assert names(outside) == ["secret"]


async def test_removing_does_not_follow_links(
    store: DirectoryStore, root: Path, source: Path, tmp_path: Path
) -> None:
    """A link below a removed prefix goes, and what it leads to stays; so does the root."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    await store.push(source, "tasks/1/film")
    (root / "tasks/1/folder").symlink_to(outside)
    (root / "tasks/1/file").symlink_to(outside / "kept")
    removed = await store.remove("tasks/1")

    assert removed == 1
    assert (outside / "kept").exists()
    assert names(root) == [".incoming"]


async def test_the_root_may_be_a_link(source: Path, tmp_path: Path) -> None:
    """Where the store is, is its owner's choice."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    await DirectoryStore(tmp_path / "link").push(source, "film")

    assert names(tmp_path / "disk") == [".incoming", "film"]


@pytest.mark.parametrize(("there", "key"), [("film/inner", "film"), ("film", "film/inner")])
async def test_a_folder_is_no_object(
    store: DirectoryStore, source: Path, tmp_path: Path, there: str, key: str
) -> None:
    """One name cannot be both, unlike in a bucket: that fails for good, and harms nothing."""
    await store.push(source, there)
    with pytest.raises(PushFailed) as push:
        await store.push(source, key)
    with pytest.raises(PullFailed) as pull:
        await store.pull(key, tmp_path / "target")

    assert push.value.code == pull.value.code == "not_a_file"
    assert push.value.permanent
    assert [stored.key for stored in await store.list("")] == [there]


async def test_a_pipe_is_no_object(
    store: DirectoryStore, root: Path, source: Path, tmp_path: Path
) -> None:
    """Something that would keep a reader waiting is refused at once, and not listed."""
    await store.push(source, "film")
    await store.remove("film")
    os.mkfifo(root / "pipe")
    with pytest.raises(PullFailed) as failure:
        await store.pull("pipe", tmp_path / "target")

    assert failure.value.code == "not_a_file"
    assert await store.list("") == []


async def test_files_put_there_by_hand(store: DirectoryStore, root: Path) -> None:
    """They are objects if their names can be keys, and are passed over if not."""
    (root / "by hand").mkdir(parents=True)
    (root / "by hand/film.mp4").write_bytes(b"film")
    (root / "by hand/two\nlines").write_bytes(b"film")
    (root / os.fsdecode(b"latin-\xe9")).write_bytes(b"film")

    assert [stored.key for stored in await store.list("")] == ["by hand/film.mp4"]


async def test_a_disk_that_is_not_mounted(root: Path, source: Path, tmp_path: Path) -> None:
    """Without `create` a missing root is an outage, not a missing object, and is not made."""
    store = DirectoryStore(root, create=False)
    for call in (
        lambda: store.pull("film", tmp_path / "target"),
        lambda: store.push(source, "film"),
        lambda: store.list(""),
        lambda: store.remove("film"),
        store.sweep,
    ):
        with pytest.raises(StoreUnavailable, match="is its disk mounted") as failure:
            await call()
        assert failure.value.definite
    assert names(tmp_path) == ["source"]


async def test_a_source_that_grows(
    store: DirectoryStore, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is written to while it is copied is not stored half old and half new."""
    step = Copy.step

    def step_and_write(copy: Copy) -> bool:
        with source.open("ab") as growing:
            growing.write(b"more")
            growing.truncate(6)
        return step(copy)

    monkeypatch.setattr(Copy, "step", step_and_write)
    with pytest.raises(PushFailed) as failure:
        await store.push(source, "film")

    assert failure.value.code == "source_changed"
    assert await store.list("") == []


KILLED = """
import os, signal, sys
from pathlib import Path
import trio
from pipeline.stores import copying, directory, tree

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

owner, method = {"copy": (copying.Copy, "finish"), "publish": (tree.Tree, "publish")}[sys.argv[1]]
setattr(owner, method, die)
store = directory.DirectoryStore(Path(sys.argv[2]))
trio.run(store.push, Path(sys.argv[3]), "film")
"""


@pytest.mark.parametrize("where", ["copy", "publish"])
async def test_a_killed_push_leaves_nothing_visible(
    store: DirectoryStore, root: Path, source: Path, where: str
) -> None:
    """What a killed peer leaves is not listed, and is swept away when it is old enough."""
    command: list[str | Path] = [sys.executable, "-c", KILLED, where, root, source]
    with trio.fail_after(30):
        status = await trio.run_process(command, check=False)
    assert status.returncode == -signal.SIGKILL
    assert await store.list("") == []
    assert len(incoming(root)) == 1

    assert await store.sweep() == 0
    assert len(incoming(root)) == 1
    assert await store.sweep(older_than_s=-1) == 1
    assert incoming(root) == []


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system that holds a quarter of a megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        do_without("only root may mount a small disk")
    yield disk
    subprocess.run(["umount", disk], check=True)


async def test_a_full_disk(tiny_disk: Path, tmp_path: Path) -> None:
    """Both directions say so, may be tried again, and leave the disk as it was."""
    large = tmp_path / "large"
    large.write_bytes(b"x" * 500_000)
    full, roomy = DirectoryStore(tiny_disk / "store"), DirectoryStore(tmp_path / "store")
    with pytest.raises(PushFailed, match="the disk is full") as push:
        await full.push(large, "film", give=True)
    await roomy.push(large, "film")
    with pytest.raises(PullFailed, match="the disk is full") as pull:
        await roomy.pull("film", tiny_disk / "film")

    assert push.value.code == pull.value.code == "disk_full"
    assert not push.value.permanent
    assert await full.list("") == []
    assert incoming(tiny_disk / "store") == []
    assert names(tiny_disk) == ["store"]


LIMITED = """
import resource, sys
from pathlib import Path
import trio
from pipeline.errors import PushFailed
from pipeline.stores.directory import DirectoryStore

resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
store = DirectoryStore(Path(sys.argv[1]))
try:
    trio.run(store.push, Path(sys.argv[2]), "film")
except PushFailed as failure:
    print(failure.code, trio.run(store.list, ""))
"""


def test_a_file_too_large_for_the_file_system(root: Path, tmp_path: Path) -> None:
    """A limit on the size of files is a failure like another, and nothing half stays."""
    large = tmp_path / "large"
    large.write_bytes(b"x" * 2000)
    answer = subprocess.run(
        [sys.executable, "-c", LIMITED, root, large], check=True, capture_output=True, text=True
    )

    assert answer.stdout.strip() == "file_too_large []"
    assert incoming(root) == []


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.ENOSPC, "disk_full"),
        (errno.EDQUOT, "disk_full"),
        (errno.EFBIG, "file_too_large"),
        (errno.EACCES, "permission_denied"),
        (errno.EPERM, "permission_denied"),
        (errno.EMFILE, "io_error"),
        (errno.EIO, None),
        (errno.EROFS, None),
        (errno.ESTALE, None),
    ],
    ids=lambda value: errno.errorcode.get(value, "") if isinstance(value, int) else "",
)
async def test_what_the_disk_says_is_translated(
    *,
    store: DirectoryStore,
    root: Path,
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    expected: str | None,
) -> None:
    """No OSError gets out; a disk that is broken is everybody's problem, not the object's."""
    await store.push(source, "film")

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    for method in ("begin_pull", "publish", "list", "remove", "sweep"):
        monkeypatch.setattr(Tree, method, fail)
    with pytest.raises(PullFailed if expected else StoreUnavailable) as pull:
        await store.pull("film", tmp_path / "target")
    with pytest.raises(PushFailed if expected else StoreUnavailable) as push:
        await store.push(source, "film", give=True)
    for call in (lambda: store.list(""), lambda: store.remove("film"), store.sweep):
        with pytest.raises(StoreUnavailable, match="the store cannot"):
            await call()

    if isinstance(pull.value, PullFailed) and isinstance(push.value, PushFailed):
        assert pull.value.code == push.value.code == expected
    else:
        assert expected is None
    assert incoming(root) == []
