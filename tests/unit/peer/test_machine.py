from __future__ import annotations

import os
from pathlib import Path

import pytest

from peer import machine


@pytest.mark.parametrize(
    ("text", "quota"),
    [
        ("150000 100000\n", 1.5),
        ("max 100000\n", None),
        ("", None),
        ("50000 0", None),
        ("x y", None),
    ],
)
def test_quota_v2(text: str, quota: float | None) -> None:
    """`cpu.max` is a quota and a period; anything else is no limit."""
    assert machine.quota_v2(text) == quota


@pytest.mark.parametrize(
    ("quota_us", "period_us", "quota"),
    [("200000\n", "100000\n", 2.0), ("-1\n", "100000\n", None), ("", "", None)],
)
def test_quota_v1(quota_us: str, period_us: str, quota: float | None) -> None:
    """The older pair of files; -1 is no limit."""
    assert machine.quota_v1(quota_us, period_us) == quota


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 16),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max": "300000 100000"}, 3),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/cpu.max": "200000 100000"}, 2),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "50000 100000"}, 1),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000"}, 16),
        (
            {
                "proc/self/cgroup": "4:cpu,cpuacct:/c\n1:name=systemd:/x\n",
                "sys/fs/cgroup/cpu/c/cpu.cfs_quota_us": "250000",
                "sys/fs/cgroup/cpu/c/cpu.cfs_period_us": "100000",
            },
            2,
        ),
    ],
)
def test_processors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], expected: int
) -> None:
    """The smallest of the affinity mask and every control group's quota counts, and at least 1."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    assert machine.processors(tmp_path) == expected


@pytest.mark.parametrize(
    ("euid", "environment", "data", "config"),
    [
        (0, {"HOME": "/h"}, "/var/lib/grapevine", "/etc/grapevine/grapevine.toml"),
        (7, {"HOME": "/h"}, "/h/.local/share/grapevine", "/h/.config/grapevine/grapevine.toml"),
        (
            7,
            {"HOME": "/h", "XDG_DATA_HOME": "/d", "XDG_CONFIG_HOME": "/c"},
            "/d/grapevine",
            "/c/grapevine/grapevine.toml",
        ),
    ],
)
def test_default_places(
    monkeypatch: pytest.MonkeyPatch,
    euid: int,
    environment: dict[str, str],
    data: str,
    config: str,
) -> None:
    """Root has the system's places, everybody else their own."""
    monkeypatch.setattr(os, "geteuid", lambda: euid)
    assert str(machine.default_data_dir(environment)) == data
    assert str(machine.default_config_file(environment)) == config


@pytest.mark.parametrize(
    ("host", "name"),
    [("node-1.example", "node-1.example"), ("a b/c", "a-b-c"), ("-x-", "x"), ("", "peer")],
)
def test_default_name(monkeypatch: pytest.MonkeyPatch, host: str, name: str) -> None:
    """Whatever the machine is called, the default is a name that the settings would accept."""
    monkeypatch.setattr("socket.gethostname", lambda: host)
    assert machine.default_name() == name
