"""The control group that stands for a container's: it limits, a peer sees it, and it goes again."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from peer.control_groups import find_chain
from tests.missing import do_without
from tests.servers.cpu_group import CpuGroup, why_missing

WaitUntil = Callable[[Callable[[], bool], float], None]

CPUS = 0.25
BUSY_S = 1.0
SEEN = f"""
import json, time
from peer.container_load import ContainerLoad
load = ContainerLoad()
load.sample(time.monotonic())
began, used = time.monotonic(), -time.process_time()
while (took := time.monotonic() - began) < {BUSY_S}:
    pass
used += time.process_time()
print(json.dumps([took, used, load.sample(time.monotonic()).cpu]))
"""
"""A process that keeps a processor busy as far as it is let, and measures itself as a peer does."""


@pytest.fixture(scope="module", autouse=True)
def can_be_made() -> None:
    if (why := why_missing()) is not None:
        do_without(why)


@contextmanager
def group_of(cpus: float) -> Iterator[CpuGroup]:
    group = CpuGroup(cpus)
    try:
        yield group
    finally:
        group.close()


def groups() -> set[Path]:
    """All of ours that there are, in every hierarchy in which one may be."""
    chains = [find_chain(controller, Path("/")) for controller in ("cpu", "cpuacct")]
    return {
        path
        for chain in chains
        if chain is not None
        for path in chain.groups[-1].glob("grapevine-*")
    }


def test_who_runs_in_it_gets_no_more() -> None:
    """A process that would keep one busy gets its quarter of a processor, and a peer in there
    measures itself by that quarter."""
    with group_of(CPUS) as group:
        done = subprocess.run(
            group.within(sys.executable, "-c", SEEN), check=True, capture_output=True, timeout=60
        )
    took_s, used_s, seen = json.loads(done.stdout)
    # A period more at each end: the quota of the one in which it begins, and of the last.
    assert 0 < used_s <= CPUS * (took_s + 0.2)
    assert seen == pytest.approx(min(1.0, used_s / took_s / CPUS), abs=0.15)


def test_the_command_is_the_process_itself() -> None:
    """No shell stands between, so a signal reaches who is meant; arguments are as they were."""
    arguments = ["two words", "$HOME", "*", "'", '"']
    show = "import json, os, sys; print(json.dumps([os.getpid(), *sys.argv[1:]]))"
    with group_of(1.0) as group:
        process = subprocess.Popen(
            group.within(sys.executable, "-c", show, *arguments), stdout=subprocess.PIPE
        )
        said, _ = process.communicate(timeout=60)
    assert json.loads(said) == [process.pid, *arguments]


def members(path: Path) -> list[str]:
    return (path / "cgroup.procs").read_text().split()


def test_it_is_removed_when_its_last_process_is_gone(wait_until: WaitUntil) -> None:
    """`close` waits for who is just ending, and leaves no group in any hierarchy."""
    before = groups()
    with group_of(1.0) as group:
        made = groups() - before
        assert made
        process = subprocess.Popen(group.within("sleep", "60"))
        try:
            wait_until(lambda: all(str(process.pid) in members(path) for path in made), 10)
        finally:
            process.kill()
            process.wait()
    assert groups() == before


def test_a_limit_that_the_kernel_refuses_leaves_nothing() -> None:
    """What was made until then is removed, and the kernel's reason is told."""
    before = groups()
    with pytest.raises(OSError, match="Invalid argument"):
        CpuGroup(1e-6)
    assert groups() == before
