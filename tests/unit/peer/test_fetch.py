"""Getting out of the store what a task has made: `peerctl fetch`; and handing in through a pipe."""

from __future__ import annotations

import base64
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from peer.cli import main
from tests.unit.peer.answers import Run, StartPeer, ok

FILES = {"master.m3u8": b"#EXTM3U", "720p/1.m4s": bytes(range(256)) * 5000, "empty": b""}
ID = "3f2a1b0c-0000-4000-8000-000000000000"


def sent(files: Mapping[str, bytes], piece: int = 300_000) -> list[Any]:
    """What a peer says of files."""
    items: list[Any] = []
    for name, content in files.items():
        items.append({"name": name, "size": len(content)})
        for start in range(0, len(content), piece):
            coded = base64.b64encode(content[start : start + piece]).decode()
            items.append({"content": coded})
    return items


def script(*items: Any) -> dict[str, Any]:
    return {"task": ok({"id": ID}), "fetch": ok({"id": ID, "files": 1}, *items)}


def test_files_come_into_a_directory(run: Run, start_peer: StartPeer, tmp_path: Path) -> None:
    """With the directories of their names; one that was there is replaced."""
    peer = start_peer(script(*sent(FILES)))
    into = tmp_path / "films" / "holiday"
    into.mkdir(parents=True)
    (into / "master.m3u8").write_bytes(b"an older one")
    result = run("fetch", "3f2a", into)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [str(into / name) for name in FILES]
    found = {str(one.relative_to(into)): one.read_bytes() for one in into.rglob("*")
             if one.is_file()}  # fmt: skip
    assert found == FILES
    assert peer.requests[-1]["arguments"] == {"id": ID}
    answer = json.loads(run("fetch", "3f2a", into, "--json").stdout)
    assert answer == {"id": ID, "directory": str(into), "files": list(FILES)}


def test_without_a_directory_it_is_called_like_the_task(
    run: Run, start_peer: StartPeer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two tasks do not mix."""
    start_peer(script(*sent(FILES)))
    monkeypatch.chdir(tmp_path)
    assert run("fetch", "3f2a").exit_code == 0
    assert (tmp_path / "3f2a1b0c" / "master.m3u8").read_bytes() == b"#EXTM3U"


def test_the_latest_is_the_newest_that_is_done(
    run: Run, start_peer: StartPeer, tmp_path: Path
) -> None:
    """Whoever has just handed one in need not copy its id; that there is none is said."""
    peer = start_peer(script(*sent(FILES)) | {"tasks": ok([{"id": ID}])})
    assert run("fetch", "latest", tmp_path / "out").exit_code == 0
    assert [one["arguments"] for one in peer.requests] == [
        {"state": "done", "limit": 1},
        {"id": ID},
    ]
    start_peer({"tasks": ok([])}, name="another")
    result = run("fetch", "latest", "--peer", "another")
    assert (result.exit_code, "no task is done yet" in result.stderr) == (1, True)


def test_a_hyphen_makes_a_tar(run: Run, start_peer: StartPeer) -> None:
    """For a pipe out of a container: all files, whole, below the task's id."""
    start_peer(script(*sent(FILES)))
    result = run("fetch", "3f2a", "-")
    assert result.exit_code == 0
    with tarfile.open(fileobj=io.BytesIO(result.stdout_bytes)) as tar:
        found = {one.name: tar.extractfile(one) for one in tar.getmembers()}
        assert {name: one.read() for name, one in found.items() if one} == {
            f"3f2a1b0c/{name}": content for name, content in FILES.items()
        }
    assert run("fetch", "3f2a", "-", "--json").exit_code == 2


@pytest.mark.parametrize("name", ["/etc/passwd", "../up", "a/../../b", ""])
def test_no_name_leads_out_of_the_directory(
    run: Run, start_peer: StartPeer, tmp_path: Path, name: str
) -> None:
    """Whatever the other process says."""
    start_peer(script(*sent({name: b"x"})))
    result = run("fetch", "3f2a", tmp_path / "in" / "out")
    assert (result.exit_code, "which is not taken" in result.stderr) == (1, True)
    assert not [path for path in (tmp_path / "in").rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    "items",
    [
        sent({"a": b"12345"})[:1],
        [{"name": "a", "size": 3}, {"content": base64.b64encode(b"12345").decode()}],
        [{"name": "a", "size": 3}, {"name": "b", "size": 3}],
    ],
)
def test_what_does_not_come_whole_does_not_come(
    run: Run, start_peer: StartPeer, tmp_path: Path, items: list[Any]
) -> None:
    """Neither a file that breaks off nor one that is longer than was said is there in the end."""
    start_peer(script(*items))
    assert run("fetch", "3f2a", tmp_path / "out").exit_code == 1
    assert list((tmp_path / "out").iterdir()) == []


def test_a_directory_that_cannot_be_is_said(
    run: Run, start_peer: StartPeer, tmp_path: Path
) -> None:
    """In a sentence."""
    start_peer(script(*sent(FILES)))
    (tmp_path / "file").touch()
    result = run("fetch", "3f2a", tmp_path / "file" / "out")
    assert (result.exit_code, "cannot write" in result.stderr) == (1, True)


@pytest.mark.usefixtures("run")  # its settings
def test_a_video_comes_through_a_pipe(start_peer: StartPeer, tmp_path: Path) -> None:
    """The peer finds it in a file below the data directory, which is gone afterwards."""
    seen: list[tuple[dict[str, Any], bytes]] = []

    def submit(arguments: dict[str, Any]) -> Any:
        seen.append((arguments, Path(arguments["path"]).read_bytes()))
        return ok({"task_id": arguments["task_id"]}, {"copied": 5, "size": 5})

    start_peer({"submit": submit})
    result = CliRunner().invoke(main, ["submit", "-", "--title", "clip.mp4"], input=b"\0video\xff")
    assert result.exit_code == 0, result.output
    [(arguments, content)] = seen
    assert (arguments["title"], content) == ("clip.mp4", b"\0video\xff")
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["peers"]
