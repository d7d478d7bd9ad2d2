"""How a peer starts another one like itself."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from peer import config, program
from peer.likeness import Likeness
from scaling.local.containers import Record

RECORD = Record(id="worker-2.3-abc", name="worker-2.3", slot=3, node="worker-2")


def loaded(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> tuple[config.Config, Likeness]:
    """What `peer` makes of a command line, without starting one."""
    seen: list[tuple[config.Config, Likeness]] = []

    def run(settings: config.Config, likeness: Likeness) -> int:
        seen.append((settings, likeness))
        return 0

    monkeypatch.setattr(program, "_run", run)
    monkeypatch.setattr("peer.logs.configure", lambda *_, **__: None)
    umask = os.umask(0o077)
    try:
        result = CliRunner().invoke(program.main, arguments)
    finally:
        os.umask(umask)
    assert result.exit_code == 0, result.output
    return seen[0]


@pytest.mark.parametrize(
    ("listen", "advertise", "listens"),
    [
        ([], [], ""),
        (["--listen", "10.0.0.1:7946"], ["--advertise", "ada:7946"], "10.0.0.1:0"),
        (["--set", "gossip.listen=[::]:7946"], [], "[::]:0"),
    ],
)
def test_it_has_the_same_settings_but_its_own_place(
    listen: list[str],
    advertise: list[str],
    listens: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Everything is repeated but name, node, container and addresses; and so again by the one that
    was started like this."""
    given = ["--config", os.devnull, "--data-dir", str(tmp_path), "--slots", "2", "--name", "ada"]
    given += [
        "--join",
        "ada",
        "--join",
        "bob:7000",
        "--set",
        "peer.node=here",
        "--set",
        "retry.base_s=3",
        "--set",
        "peer.metrics_listen=127.0.0.1:9464",
        "--dry-run",
        "--set",
        "scaling.orchestrator=local",
    ]
    first, likeness = loaded([*given, *listen, *advertise], monkeypatch)
    launch = likeness.launch(RECORD, first)
    assert launch.command[:4] == [sys.executable, "-P", "-m", "peer"]
    second, again = loaded(list(launch.command[4:]), monkeypatch)
    assert first.peer.metrics_listen == "127.0.0.1:9464"
    assert second.peer.metrics_listen == "127.0.0.1:0"
    assert (second.peer.name, second.peer.node) == ("worker-2.3", "worker-2")
    assert first.scaling.dry_run is second.scaling.dry_run is True
    assert (second.peer.container, second.peer.slots) == ("worker-2.3-abc", 2)
    assert second.peer.data_dir == tmp_path
    assert (second.gossip.listen, second.gossip.advertise) == (listens, "")
    assert second.gossip.join == ("ada", "bob:7000")
    assert second.retry.base_s == 3
    third = again.launch(RECORD, second)
    assert third == launch


def test_the_lifeline_is_handed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is started ends with the same one; the file descriptor survives two programs."""
    reading, writing = os.pipe()
    try:
        given = ["--config", os.devnull, "--data-dir", str(tmp_path), "--lifeline", str(reading)]
        settings, likeness = loaded(given, monkeypatch)
        launch = likeness.launch(RECORD, settings)
        assert launch.descriptors == (reading,)
        assert list(launch.command[-2:]) == ["--lifeline", str(reading)]
        assert os.get_inheritable(reading)
    finally:
        os.close(reading)
        os.close(writing)
