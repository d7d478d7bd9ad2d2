"""A support bundle: it is made whatever is broken, says what it lacks, and holds no secret."""

from __future__ import annotations

import io
import json
import os
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peer.bundle import archive
from peer.bundle.archive import Entry, write_bundle
from peer.bundle.parts import LOG_BYTES_MAX, Part, tail
from peer.disclosure import Scrubber
from peer.errors import CommandFailed, NoPeer
from tests.unit.peer.answers import Run, StartPeer, ok, refused


def fails(error: Exception) -> Callable[[], Any]:
    def collect() -> Any:
        raise error

    return collect


def texts(file: Path) -> dict[str, str]:
    """What is in a bundle, by its names there."""
    found = {}
    with tarfile.open(file) as bundle:
        for member in bundle.getmembers():
            content = bundle.extractfile(member)
            assert content is not None
            found[member.name.partition("/")[2]] = content.read().decode()
    return found


def test_each_part_is_its_own_trouble(tmp_path: Path) -> None:
    """What cannot be had leaves its reason, and nothing else is missing for it."""
    parts = [
        Part("a.json", lambda: {"b": 1}),
        Part("gone.json", fails(NoPeer("no peer answers"))),
        Part("b.txt", lambda: "text"),
        Part("unreadable.txt", fails(PermissionError(13, "Permission denied", "x.log"))),
        Part("broken.json", fails(ZeroDivisionError("by zero"))),
        Part("strange.json", object),
    ]
    file = tmp_path / "b.tar.gz"
    entries = write_bundle(file, parts, Scrubber(), about={"made_by": "1"})
    assert [entry.name for entry in entries] == [part.name for part in parts]
    missing = {entry.name: entry.missing for entry in entries if entry.missing}
    assert missing.keys() == {"gone.json", "unreadable.txt", "broken.json", "strange.json"}
    assert missing["gone.json"] == "no peer answers"
    assert missing["unreadable.txt"] == "x.log: Permission denied"
    assert missing["broken.json"] == "ZeroDivisionError: by zero"
    found = texts(file)
    assert found.keys() == {"README.txt", "manifest.json", "a.json", "b.txt"}
    assert json.loads(found["a.json"]) == {"b": 1}
    manifest = json.loads(found["manifest.json"])
    assert manifest["made_by"] == "1"
    assert manifest["parts"][1] == {"name": "gone.json", "size": 0, "missing": "no peer answers"}


def test_every_part_and_every_reason_is_searched_for_secrets(tmp_path: Path) -> None:
    """Documents, texts, and what an error says of why there is none."""
    parts = [
        Part("a.json", lambda: {"said": "hunter2", "hunter2": 1}),
        Part("b.txt", lambda: "x hunter2 y"),
        Part("c.txt", fails(CommandFailed("not with hunter2"))),
    ]
    file = tmp_path / "b.tar.gz"
    (*_, last) = write_bundle(file, parts, Scrubber(["hunter2"]), about={"by": "hunter2"})
    assert last == Entry(name="c.txt", missing="not with ***")
    assert "hunter2" not in "".join(texts(file).values())


def test_a_part_beyond_all_measure_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One huge answer does not make a bundle that nobody can send."""
    monkeypatch.setattr(archive, "PART_BYTES_MAX", 10)
    (entry,) = write_bundle(
        tmp_path / "b.tar.gz", [Part("a.txt", lambda: "x" * 11)], Scrubber(), about={}
    )
    assert entry.missing == "it is larger than 10 bytes"


def test_it_is_for_its_owner_alone_and_whole_or_not_there(tmp_path: Path) -> None:
    """Others cannot read it, and a place that cannot be written leaves nothing half done."""
    file = tmp_path / "b.tar.gz"
    write_bundle(file, [], Scrubber(), about={})
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with pytest.raises(CommandFailed, match=r"cannot write .*No such file"):
        write_bundle(tmp_path / "no" / "b.tar.gz", [], Scrubber(), about={})
    assert [path.name for path in tmp_path.iterdir()] == ["b.tar.gz"]


def test_of_a_long_log_the_end_is_taken(tmp_path: Path) -> None:
    """From the beginning of a line; whatever bytes are in it."""
    log = tmp_path / "log"
    log.write_bytes(b"\xff first\n" + b"line\n" * (LOG_BYTES_MAX // 5) + b"last\n")
    end = tail(log)
    assert end.endswith("line\nlast\n")
    assert end.startswith("line\n")
    assert len(end) <= LOG_BYTES_MAX
    log.write_bytes(b"\xff short\n")
    assert tail(log) == "\N{REPLACEMENT CHARACTER} short\n"


def test_without_any_peer_the_machine_is_told_of(run: Run, tmp_path: Path) -> None:
    """A bundle is made, with versions, settings and what doctor finds; and says who is away."""
    (tmp_path / "data" / "peers" / "one").mkdir(parents=True)
    file = tmp_path / "b.tar.gz"
    given = tmp_path / "collected.log"
    given.write_text("what systemd has\n")
    result = run("bundle", "-o", str(file), "--log", str(given), "--json")
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert said["file"] == str(file)
    assert {"machine.json", "versions.json", "settings.json", "doctor.json"} <= set(said["parts"])
    assert "No such file" in said["missing"]["peers/one/status.json"]
    assert said["missing"].keys() >= {"cluster/tasks.json", "peers/one/log.txt"}
    found = texts(file)
    assert found["logs/given-1-collected.log"] == "what systemd has\n"
    assert json.loads(found["versions.json"])["packages"]["trio"]
    assert json.loads(found["machine.json"])["processors_allowed"] >= 1


def test_a_hyphen_is_a_pipe(run: Run) -> None:
    """The bundle alone goes to standard output, and what is said to the person beside it."""
    result = run("bundle", "-o", "-")
    assert result.exit_code == 0, result.stderr
    with tarfile.open(fileobj=io.BytesIO(result.stdout_bytes)) as tar:
        assert tar.getnames()
    assert "Look through it before you send it." in result.stderr
    assert run("bundle", "-o", "-", "--json").exit_code == 2


def test_a_peer_that_answers_some_things_is_told_of_as_far(
    run: Run, start_peer: StartPeer, tmp_path: Path
) -> None:
    """A peer whose ledger is away says what it can, and why not the rest."""
    away = ("tasks", "events", "escalations", "queue", "scale", "scale_explain")
    start_peer(
        {
            **{command: refused("failed") for command in away},
            "status": ok({"pid": os.getpid()}),
            "table": ok({"members": []}),
            "metrics": ok("grapevine_ready 0\n"),
            "settings": ok({"ledger.url": "***"}),
            "local_events": ok(None, {"number": 1}, {"number": 2}),
            "doctor": ok([]),
        }
    )
    file = tmp_path / "b.tar.gz"
    result = run("bundle", "-o", str(file))
    assert result.exit_code == 0, result.output
    for part in ("tasks", "events", "escalations", "queue", "scale", "decisions"):
        assert f"without cluster/{part}.json: one: the sentence" in result.output
    found = texts(file)
    assert found["peers/one/metrics.txt"] == "grapevine_ready 0\n"
    assert json.loads(found["peers/one/noticed.json"]) == [{"number": 1}, {"number": 2}]
    assert json.loads(found["peers/one/settings.json"]) == {"ledger.url": "***"}
