"""Run seeds until one fails.

    python -m tests.simulation                          200 seeds
    python -m tests.simulation --seeds 100000           a night's
    python -m tests.simulation --seed 1234              that one again, byte for byte
    python -m tests.simulation --seed 1234 --trace -    with every datagram as a line

Exit status 1 at the first failure, which is told with the one command that repeats it.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from pathlib import Path

from tests.simulation.run import Outcome, run_seed
from tests.simulation.workload import draw

SEEDS = 200
PROGRESS_EVERY_S = 5.0


def main(arguments: list[str] | None = None) -> int:
    """Do what was asked for; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--seed", type=int, help="run only this one, and tell about it")
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"how many (default {SEEDS})")
    parser.add_argument("--first", type=int, default=0, help="the first of them (default 0)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes side by side")
    parser.add_argument("--trace", metavar="FILE", help="with --seed: every datagram; - for here")
    parser.add_argument("--all", action="store_true", help="go on after a failure; tell each one")
    chosen = parser.parse_args(arguments)
    if chosen.seed is not None:
        return one(chosen.seed, chosen.trace)
    seeds = range(chosen.first, chosen.first + chosen.seeds)
    return many(seeds, chosen.jobs or 1, go_on=chosen.all)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def one(seed: int, trace: str | None) -> int:
    """Run one seed, and say everything about it."""
    _say(draw(seed).words())
    if trace is None:
        outcome = run_seed(seed)
    elif trace == "-":
        outcome = run_seed(seed, sys.stdout)
    else:
        with Path(trace).open("w") as file:
            outcome = run_seed(seed, file)
    _say(outcome.failure or "nothing is wrong with it")
    _say(f"trace {outcome.digest}, {outcome.virtual_s:.1f} s in {outcome.real_s:.1f} s")
    return 1 if outcome.failure else 0


def many(seeds: range, jobs: int, *, go_on: bool = False) -> int:
    """Run many seeds in several processes, and stop at the first that fails, or tell them all."""
    began = told = time.monotonic()
    done: list[Outcome] = []
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        for outcome in pool.imap_unordered(run_seed, seeds, chunksize=1):
            done.append(outcome)
            if outcome.failure:
                _say(outcome.failure.splitlines()[0] if go_on else outcome.failure)
                if not go_on:
                    return 1
            if time.monotonic() - told > PROGRESS_EVERY_S:
                told = time.monotonic()
                rate = len(done) / (told - began)
                _say(f"{len(done)} of {len(seeds)} seeds, {rate:.1f}/s")
    _say(summary(done, time.monotonic() - began))
    return 1 if any(outcome.failure for outcome in done) else 0


def summary(done: list[Outcome], took_s: float) -> str:
    """Return what a person wants to know of many seeds."""
    failed = sum(outcome.failure is not None for outcome in done)
    settled = sorted(outcome.settled_s for outcome in done)
    noticed = sorted(o.noticed_s for o in done if o.noticed_s is not None)
    virtual_s = sum(outcome.virtual_s for outcome in done)
    hours = virtual_s / 3600
    lines = [f"{len(done)} seeds, {hours:.1f} virtual hours in {took_s:.0f} s: {failed} failed"]
    for name, values in (("settled after healing", settled), ("crash known everywhere", noticed)):
        if values:
            middle, last = values[len(values) // 2], values[-1]
            lines.append(f"{name}: half within {middle:.1f} s, all within {last:.1f} s")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
