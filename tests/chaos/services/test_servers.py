"""The servers of these tests themselves: what a test run that is killed leaves behind."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress

import psutil
import pytest

from tests.chaos.services.crew import ROOT
from tests.missing import do_without
from tests.servers.postgres import is_alive, public_directory
from tests.servers.rabbitmq import why_missing

pytestmark = pytest.mark.slow

GONE_WITHIN_S = 10.0
RUN = """
import sys, time
from pathlib import Path
from tests.chaos.services.services import running

with running(Path(sys.argv[1])) as services:
    for server in services.each.values():
        server.freeze()
    print("frozen", flush=True)
    time.sleep(600)
"""
PROGRAMS = {"postgres", "epmd", "beam.smp", "juicefs"}


@pytest.fixture
def run() -> Iterator[psutil.Process]:
    """A process that has started all servers, and has frozen them."""
    if (why := why_missing()) is not None:
        do_without(why)
    with public_directory() as directory:
        command = [sys.executable, "-c", RUN, str(directory)]
        started: list[psutil.Process] = []
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline() == b"frozen\n"
                run = psutil.Process(process.pid)
                started = run.children(recursive=True)
                yield run
            finally:
                process.kill()
                for each in started:
                    with suppress(psutil.NoSuchProcess):
                        each.kill()


def test_a_killed_test_run_leaves_no_server(
    run: psutil.Process, wait_until: Callable[[Callable[[], bool], float], None]
) -> None:
    """pytest is killed with SIGKILL while its servers stand still: none of their processes is left,
    nor any of those that guarded them."""
    started = run.children(recursive=True)
    assert {each.name() for each in started} >= PROGRAMS
    run.kill()
    wait_until(lambda: not any(map(is_alive, started)), GONE_WITHIN_S)
