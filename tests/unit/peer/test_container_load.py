"""How busy a container is, on machines that are directories here, and on this one."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from math import inf
from pathlib import Path

import pytest

from peer.container_load import ContainerLoad, keyed, machine_cpu, machine_memory, number
from peer.control_groups import find_chain

GIB = 1 << 30

V2_MOUNT = "31 23 0:28 / /sys/fs/cgroup rw,relatime shared:4 - cgroup2 cgroup2 rw"
V1_CPU = "32 31 0:29 {root} /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct"
V1_MEMORY = "35 31 0:32 {root} /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory"
HYBRID_UNIFIED = "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw"

MACHINE = {
    "proc/meminfo": "MemTotal: 16777216 kB\nMemFree: 1 kB\nMemAvailable: 12582912 kB\n",
    "proc/stat": "cpu 0\ncpu0 0 0 0 0 0 0 0 0\ncpu1 0 0 0 0 0 0 0 0\nintr 1 2\n",
}
"""16 GiB, of which a quarter is used; two processors."""


class Machine:
    """A file system with a few files of the kernel in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.write(MACHINE)

    def write(self, files: dict[str, str]) -> None:
        """Replace these files."""
        for name, text in files.items():
            file = self.root / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)

    def load(self, processors: int = 8) -> ContainerLoad:
        """Measure it as a process that may use so many processors."""
        return ContainerLoad(self.root, allowed=lambda: set(range(processors)))


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine without control groups."""
    return Machine(tmp_path)


def v2(path: str, *groups: tuple[str, dict[str, str]]) -> dict[str, str]:
    files = {"proc/self/cgroup": f"0::{path}\n", "proc/self/mountinfo": f"{V2_MOUNT}\n"}
    for group, content in groups:
        files |= {f"sys/fs/cgroup{group}/{name}": text for name, text in content.items()}
    return files


def v1(path: str, root: str, *groups: tuple[str, dict[str, str]]) -> dict[str, str]:
    files = {
        "proc/self/cgroup": f"5:memory:{path}\n4:cpu,cpuacct:{path}\n1:name=systemd:{path}\n0::/\n",
        "proc/self/mountinfo": "\n".join(
            [
                "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw",
                V1_CPU.format(root=root),
                V1_MEMORY.format(root=root),
                HYBRID_UNIFIED,
                "",
            ]
        ),
    }
    for group, content in groups:
        for name, text in content.items():
            controller = "memory" if name.startswith("memory") else "cpu,cpuacct"
            files[f"sys/fs/cgroup/{controller}{group}/{name}"] = text
    return files


LIMITED_V2 = {
    "cpu.max": "200000 100000\n",
    "cpu.stat": "usage_usec 0\nuser_usec 0\n",
    "memory.max": f"{2 * GIB}\n",
    "memory.high": "max\n",
    "memory.current": f"{GIB + GIB // 2}\n",
    "memory.stat": f"anon 1\ninactive_file {GIB // 2}\nactive_file 5\n",
}
OPEN_V2 = {"cpu.max": "max 100000\n", "memory.max": "max\n", "memory.high": "max\n"}
LIMITED_V1 = {
    "cpu.cfs_quota_us": "200000\n",
    "cpu.cfs_period_us": "100000\n",
    "cpuacct.usage": "0\n",
    "memory.limit_in_bytes": f"{2 * GIB}\n",
    "memory.usage_in_bytes": f"{GIB + GIB // 2}\n",
    "memory.stat": f"inactive_file 7\ntotal_inactive_file {GIB // 2}\n",
}
OPEN_V1 = {
    "cpu.cfs_quota_us": "-1\n",
    "cpu.cfs_period_us": "100000\n",
    "cpuacct.usage": "0\n",
    "memory.limit_in_bytes": "9223372036854771712\n",
    "memory.usage_in_bytes": f"{GIB}\n",
}
USED_V2, USED_V1 = "usage_usec {us}\n", "{us}000\n"

CONTAINERS = [
    pytest.param(v2("/", ("", LIMITED_V2)), "cpu.stat", USED_V2, id="docker, v2"),
    pytest.param(
        v2(
            "/system.slice/grapevine.service",
            ("/system.slice/grapevine.service", LIMITED_V2),
            ("/system.slice", OPEN_V2),
        ),
        "system.slice/grapevine.service/cpu.stat",
        USED_V2,
        id="a service of systemd, v2",
    ),
    pytest.param(
        v2("/pod/container", ("/pod/container", OPEN_V2), ("/pod", LIMITED_V2), ("", OPEN_V2)),
        "pod/cpu.stat",
        USED_V2,
        id="the limit is further out, v2",
    ),
    pytest.param(
        v2("/../../elsewhere", ("", LIMITED_V2)),
        "cpu.stat",
        USED_V2,
        id="the path is outside of the namespace, v2",
    ),
    pytest.param(
        v1("/docker/abc", "/docker/abc", ("", LIMITED_V1)),
        "cpu,cpuacct/cpuacct.usage",
        USED_V1,
        id="docker without a namespace, v1",
    ),
    pytest.param(
        v1("/", "/", ("", LIMITED_V1)),
        "cpu,cpuacct/cpuacct.usage",
        USED_V1,
        id="docker with a namespace, v1",
    ),
    pytest.param(
        v1("/user/me", "/", ("/user/me", OPEN_V1), ("/user", LIMITED_V1), ("", OPEN_V1)),
        "cpu,cpuacct/user/cpuacct.usage",
        USED_V1,
        id="the limit is further out, v1",
    ),
]


@pytest.mark.parametrize(("files", "usage", "used"), CONTAINERS)
def test_a_limited_container(
    machine: Machine, files: dict[str, str], usage: str, used: str
) -> None:
    """A second of one processor, where two are allowed, is a half; and so is 1 of 2 GiB."""
    machine.write(files)
    load = machine.load()
    load.sample(100.0)
    machine.write({f"sys/fs/cgroup/{usage}": used.format(us=1_000_000)})

    use = load.sample(101.0)

    assert (use.cpu, use.memory) == pytest.approx((0.5, 0.5))


def test_nested_limits(machine: Machine) -> None:
    """The group that is nearest to its limit counts: for the processors another than for memory."""
    inner = LIMITED_V2 | {"memory.max": f"{GIB + GIB // 4}\n"}
    outer = LIMITED_V2 | {"cpu.max": "100000 100000\n"}
    machine.write(v2("/pod/me", ("/pod/me", inner), ("/pod", outer)))
    load = machine.load()
    load.sample(100.0)
    machine.write(
        {
            "sys/fs/cgroup/pod/me/cpu.stat": "usage_usec 500000\n",
            "sys/fs/cgroup/pod/cpu.stat": "usage_usec 900000\n",
        }
    )

    use = load.sample(101.0)

    assert (use.cpu, use.memory) == pytest.approx((0.9, 0.8))


def test_a_throttled_group(machine: Machine) -> None:
    """Where the kernel slows a group down at `memory.high`, that is its limit."""
    machine.write(v2("/", ("", LIMITED_V2 | {"memory.high": f"{GIB + GIB // 4}\n"})))
    assert machine.load().sample(0.0).memory == pytest.approx(0.8)


def test_a_quota_above_the_machine(machine: Machine) -> None:
    """Nobody can use more processors than it may run on, nor more memory than there is."""
    generous = {"cpu.max": "6400000 100000\n", "memory.max": f"{1024 * GIB}\n"}
    machine.write(v2("/", ("", LIMITED_V2 | generous)))
    load = machine.load(processors=2)
    load.sample(100.0)
    machine.write({"sys/fs/cgroup/cpu.stat": "usage_usec 1000000\n"})

    use = load.sample(101.0)

    assert (use.cpu, use.memory) == pytest.approx((0.5, 1 / 16))


@pytest.mark.parametrize(
    "files",
    [
        pytest.param({}, id="no control groups"),
        pytest.param(v2("/me", ("/me", OPEN_V2), ("", OPEN_V2)), id="v2"),
        pytest.param(v1("/me", "/", ("/me", OPEN_V1), ("", OPEN_V1)), id="v1"),
        pytest.param({"proc/self/cgroup": "garbage\n::\n1:cpu\n", **v2("/")}, id="nothing in them"),
        pytest.param(
            {"proc/self/cgroup": "0::/\n", "proc/self/mountinfo": "- - \n1 2 - cgroup2\n\x00"},
            id="a damaged list of mounts",
        ),
        pytest.param(
            v2("/", ("", dict.fromkeys(LIMITED_V2, "no number\n\n"))), id="no numbers in them"
        ),
        pytest.param(
            v2("/", ("", LIMITED_V2 | {"cpu.max": "0 0\n", "memory.max": "0\n"})), id="zeros"
        ),
    ],
)
def test_without_a_limit(machine: Machine, files: dict[str, str]) -> None:
    """The machine is the limit: its memory, and of the processors those this process may run on."""
    machine.write(files)
    load = machine.load(processors=1)
    load.sample(100.0)
    machine.write({"proc/stat": "cpu 0\ncpu0 10 5 5 20 20 5 5 10\ncpu1 0 0 0 80 0 0 0 0\n"})

    use = load.sample(101.0)

    assert (use.cpu, use.memory) == pytest.approx((40 / 80, 0.25))


def test_files_that_vanish(machine: Machine) -> None:
    """A group that is removed while it is measured, or a machine without /proc, is no error."""
    machine.write(v2("/me", ("/me", LIMITED_V2)))
    load = machine.load()
    load.sample(100.0)
    for file in machine.root.rglob("*"):
        if file.is_file():
            file.unlink()

    use = load.sample(101.0)

    assert (use.cpu, use.memory) == (0.0, 0.0)
    assert machine.load().sample(0.0) == use


def test_two_looks_at_once(machine: Machine) -> None:
    """Whoever asks again at once gets the same answer, and spoils no interval."""
    machine.write(v2("/", ("", LIMITED_V2)))
    load = machine.load()
    load.sample(100.0)
    machine.write({"sys/fs/cgroup/cpu.stat": "usage_usec 1000000\n"})
    first = load.sample(101.0)

    assert load.sample(101.001) == first
    machine.write({"sys/fs/cgroup/cpu.stat": "usage_usec 1500000\n"})
    assert load.sample(102.0).cpu == pytest.approx(0.25)


def test_a_counter_that_goes_back(machine: Machine) -> None:
    """A share is never below 0 nor above 1, whatever the kernel says."""
    machine.write(v2("/", ("", LIMITED_V2 | {"cpu.stat": "usage_usec 900000000\n"})))
    load = machine.load()
    shares = []
    for now, used_us in enumerate([900_000_000, 5, 900_000_000]):
        machine.write({"sys/fs/cgroup/cpu.stat": f"usage_usec {used_us}\n"})
        shares.append(load.sample(float(now)).cpu)

    assert shares == [0.0, 0.0, 1.0]


def test_a_mount_with_a_space(machine: Machine) -> None:
    """The kernel writes such names with escapes; both versions at once, each for what it has."""
    mountinfo = [
        r"32 31 0:29 / /sys/fs/my\040groups/cpu rw - cgroup cgroup rw,cpu",
        r"33 31 0:29 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw",
    ]
    machine.write(
        {
            "proc/self/cgroup": "1:cpu:/a b\n0::/\n",
            "proc/self/mountinfo": "\n".join(mountinfo),
            "sys/fs/my groups/cpu/a b/cpu.shares": "1\n",
            "sys/fs/cgroup/memory.max": "max\n",
        }
    )

    cpu, memory = (find_chain(name, machine.root) for name in ("cpu", "memory"))

    assert cpu is not None
    assert cpu.version == 1
    top = machine.root / "sys/fs/my groups/cpu"
    assert cpu.groups == (top / "a b", top)
    assert memory is not None
    assert (memory.version, memory.groups) == (2, (machine.root / "sys/fs/cgroup",))


@pytest.mark.parametrize(
    ("text", "value"),
    [("7\n", 7.0), ("max\n", None), ("-1\n", None), ("", None), ("1e3", None), ("\u0663", None)],
)
def test_numbers(text: str, value: float | None) -> None:
    """Whole numbers in plain digits, and nothing else."""
    assert number(text) == value


def test_the_machines_own_files() -> None:
    """As they come, and damaged."""
    assert keyed("a 1\nb\nc x\nd   2\n") == {"a": 1.0, "d": 2.0}
    assert machine_cpu("cpu0 1 1 1 5 1 0 0 1 9 9\ncpux 1\n\ncpu1 1\n", {0, 1}) == (4.0, 10.0)
    assert machine_memory("MemTotal:  10 kB\nMemAvailable: 4 kB\n") == (4096.0, 10240.0)
    assert machine_memory("") == (0.0, 0.0)


def test_this_machine_under_load() -> None:
    """One process that computes shows as at least most of one processor, in less than 1 ms."""
    load = ContainerLoad()
    processors = len(os.sched_getaffinity(0))
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as burner:
        try:
            highest, least_s = 0.0, inf
            deadline = time.monotonic() + 20
            while (highest < 0.6 / processors or least_s >= 0.001) and time.monotonic() < deadline:
                load.sample(time.monotonic())
                time.sleep(0.3)  # the interval that is measured
                began = time.thread_time()
                use = load.sample(time.monotonic())
                least_s = min(least_s, time.thread_time() - began)
                highest = max(highest, use.cpu)
        finally:
            burner.kill()
    assert highest >= 0.6 / processors
    assert 0.0 < use.memory < 1.0
    assert least_s < 0.001
