"""What a container may use, and whom the kernel has ended in it, by files as Linux has them."""

from __future__ import annotations

from pathlib import Path

import pytest

from peer.container_memory import ContainerMemory, KillRecord

MEBIBYTE = 1 << 20
V1_MOUNT = "40 1 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
V2_MOUNT = "40 1 0:30 / /sys/fs/cgroup rw - cgroup2 cgroup rw\n"


class Root:
    """The root of a file system with control groups of one version."""

    def __init__(self, path: Path, version: int) -> None:
        self.path = path
        self.version = version
        self.write("proc/self/mountinfo", V1_MOUNT if version == 1 else V2_MOUNT)
        self.write("proc/self/cgroup", "4:memory:/box\n" if version == 1 else "0::/box\n")
        self.write("proc/meminfo", "MemTotal: 1048576 kB\nMemAvailable: 524288 kB\n")
        self.limit(300 * MEBIBYTE)
        self.kill(0)

    def write(self, file: str, content: str) -> None:
        (self.path / file).parent.mkdir(parents=True, exist_ok=True)
        (self.path / file).write_text(content)

    @property
    def box(self) -> str:
        return "sys/fs/cgroup/memory/box" if self.version == 1 else "sys/fs/cgroup/box"

    def limit(self, limit_bytes: int | None) -> None:
        if self.version == 1:
            self.write(f"{self.box}/memory.limit_in_bytes", f"{limit_bytes or 2**63 - 4096}\n")
            self.write(f"{self.box}/memory.usage_in_bytes", "4096\n")
        else:
            self.write(f"{self.box}/memory.max", f"{limit_bytes or 'max'}\n")
            self.write(f"{self.box}/memory.current", "4096\n")

    def kill(self, count: int) -> None:
        if self.version == 1:
            said = f"oom_kill_disable 0\nunder_oom 0\noom_kill {count}\n"
            self.write(f"{self.box}/memory.oom_control", said)
        else:
            said = f"low 0\nhigh 0\nmax 7\noom 1\noom_kill {count}\noom_group_kill 0\n"
            self.write(f"{self.box}/memory.events", said)

    @property
    def memory(self) -> ContainerMemory:
        return ContainerMemory(self.path)


@pytest.fixture(params=[1, 2])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Root:
    """With each version."""
    return Root(tmp_path, request.param)


def test_what_the_group_says(root: Root) -> None:
    """Its limit, and its own count of kills as it is now."""
    memory = root.memory
    assert (memory.limit_bytes, memory.kills()) == (300 * MEBIBYTE, 0)
    root.kill(3)
    assert memory.kills() == 3


def test_the_machine_is_a_limit_too(root: Root) -> None:
    """Of a group that is not limited, or by more than there is."""
    for limit_bytes in (None, 4096 * MEBIBYTE):
        root.limit(limit_bytes)
        assert root.memory.limit_bytes == 1024 * MEBIBYTE


def test_a_group_that_does_not_count(root: Root) -> None:
    """Then the machine's count is looked at; and where there is none either, nobody knows."""
    for file in ("memory.oom_control", "memory.events"):
        (root.path / root.box / file).unlink(missing_ok=True)
    assert root.memory.kills() is None
    assert root.memory.group == ""
    root.write("proc/vmstat", "nr_free_pages 1\noom_kill 5\n")
    assert root.memory.kills() == 5


def test_nothing_is_known() -> None:
    """A system without any of these files has no limit that we could name."""
    memory = ContainerMemory(Path("/nonexistent"))
    assert (memory.limit_bytes, memory.kills(), memory.group) == (None, None, "")


def test_a_start_finds_that_the_kernel_has_ended_the_former_life(root: Root) -> None:
    """By the count that was kept when it last changed."""
    file = root.path / "memory-kills"
    first = KillRecord(file, root.memory)
    assert not first.ran_out()
    assert first.keep()
    assert not first.keep()
    root.kill(1)  # an encoder, whose end this life has seen
    assert first.keep()
    assert not KillRecord(file, root.memory).ran_out()
    root.kill(2)
    second = KillRecord(file, root.memory)
    assert second.ran_out()
    assert second.keep()
    assert not KillRecord(file, root.memory).ran_out()


@pytest.mark.parametrize("content", ["", "x y\n", "None \n", "0\n", "0 /elsewhere\n", "\0\n"])
def test_a_record_of_something_else_says_nothing(root: Root, content: str) -> None:
    """Another container's count, a broken file, or none."""
    file = root.path / "memory-kills"
    file.write_text(content)
    root.kill(9)
    assert not KillRecord(file, root.memory).ran_out()


def test_a_disk_that_is_full_stops_nobody(root: Root) -> None:
    """What cannot be kept is not known later; that is all."""
    record = KillRecord(root.path / "missing" / "memory-kills", root.memory)
    assert record.keep()
    assert not record.keep()
