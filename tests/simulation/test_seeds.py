"""Random misfortunes by the hundred, and the proof that each can be repeated byte for byte."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.__main__ import SEEDS, main
from tests.simulation.run import command, run_seed
from tests.simulation.workload import MISFORTUNES, draw

REPLAYED = (3, 5, 17)

SHARES = 10


@pytest.mark.slow
@pytest.mark.parametrize("share", range(SHARES))
def test_no_seed_breaks_a_rule(share: int) -> None:
    """200 clusters, each with its own size, weather and misfortunes, keep every rule and settle;
    a failure is told with the command that repeats it."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(os.cpu_count()) as pool:
        failures = [
            outcome.failure
            for outcome in pool.imap_unordered(run_seed, range(share, SEEDS, SHARES))
            if outcome.failure
        ]
    assert not failures, "\n".join(failures)


def test_the_seeds_of_ci_meet_every_misfortune_often() -> None:
    """Each kind of misfortune comes in at least ten of them, small clusters and large, in plain
    text and sealed."""
    plans = [draw(seed) for seed in range(SEEDS)]
    counts = {
        kind: sum(any(m.kind == kind for m in plan.misfortunes) for plan in plans)
        for kind in MISFORTUNES
    }
    assert min(counts.values()) >= 10
    assert {plan.size for plan in plans} >= {3, 5, 8, 16, 24}
    assert {plan.sealed for plan in plans} == {True, False}


@pytest.mark.parametrize("seed", REPLAYED)
def test_a_seed_is_the_same_in_another_process(seed: int) -> None:
    """The digest of everything that happened does not depend on the process, nor on how it
    scatters its hashes."""
    here = run_seed(seed).digest
    for hash_seed in ("0", "4711"):
        printed = subprocess.run(
            [sys.executable, *command(seed).split()[1:]],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert f"trace {here}," in printed


def test_another_seed_is_another_run() -> None:
    """The digest tells runs apart."""
    assert len({run_seed(seed).digest for seed in REPLAYED}) == len(REPLAYED)


def test_a_failing_seed_tells_how_to_see_it_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """When a rule is broken, the seed, its plan, the trace's end and the one command are printed,
    and the exit status is 1."""
    monkeypatch.setattr("tests.simulation.run.SETTLE_S", -1.0)
    monkeypatch.setattr("tests.simulation.run.unsettled", lambda world: "p1 sulks")
    assert main(["--seed", "5"]) == 1
    printed = capsys.readouterr().out
    assert "p1 sulks" in printed
    assert "the end of the trace:" in printed
    assert "again: python -m tests.simulation --seed 5\n" in printed
