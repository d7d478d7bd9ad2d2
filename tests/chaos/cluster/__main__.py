"""Chaos on a cluster, by hand or for a night: `python -m tests.chaos.cluster --seed 7`."""

from __future__ import annotations

import argparse
import random
import sys
import time
from pathlib import Path

from deploy.lab.errors import LabError
from tests.chaos.cluster.laboratory import FOLDERS, MANAGERS, NODES, laboratory, new_folder
from tests.chaos.cluster.night import Night
from tests.chaos.cluster.run import Setting, Verdict, run

HOUR_S = 3600.0


def main() -> int:
    """Run as long as is asked for; 1 if a promise was broken."""
    arguments = _parse()
    try:
        return _night(arguments) if arguments.hours else _once(arguments)
    except LabError as error:
        sys.exit(f"chaos: {error}")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos.cluster",
        description="Break a real cluster at random while it works, and see what it has kept.",
    )
    parser.add_argument("--seed", type=int, help="of the faults and the work; drawn and told")
    parser.add_argument("--minutes", type=float, default=10.0, help="for a run (%(default)s)")
    parser.add_argument("--hours", type=float, help="run after run, each with the next seed")
    parser.add_argument("--nodes", type=int, default=NODES, help="of the lab (%(default)s)")
    parser.add_argument("--managers", type=int, default=MANAGERS, help="of them (%(default)s)")
    parser.add_argument("--folder", type=Path, default=FOLDERS, help="for what is left of it")
    arguments = parser.parse_args()
    if arguments.seed is None:
        arguments.seed = random.SystemRandom().randrange(1_000_000)
    return arguments


def _once(arguments: argparse.Namespace) -> int:
    setting = _setting(arguments, arguments.seed, arguments.folder)
    with laboratory(nodes=arguments.nodes, managers=arguments.managers) as lab:
        verdict = run(lab, setting, say)
    say(f"\n{verdict.text}Folder: {setting.folder}")
    return 1 if verdict.objections else 0


def _night(arguments: argparse.Namespace) -> int:
    """A lab for each run, so that the one says nothing about the other's leftovers."""
    folder = new_folder(arguments.folder, arguments.seed)
    night = Night(folder)
    ends_s = time.monotonic() + arguments.hours * HOUR_S
    seed = arguments.seed
    while time.monotonic() + arguments.minutes * 60 < ends_s or not night.runs:
        setting = _setting(arguments, seed, folder)
        night.add(setting, _one_of_many(arguments, setting))
        say(night.text)
        seed += 1
    return 1 if night.broken else 0


def _one_of_many(arguments: argparse.Namespace, setting: Setting) -> Verdict:
    """Run it; a lab that cannot be made, or a stack that never gets well, ends no night."""
    try:
        with laboratory(nodes=arguments.nodes, managers=arguments.managers) as lab:
            return run(lab, setting, say)
    except LabError as error:
        return Verdict(objections=[f"it could not be run to its end: {error}"], text="")


def _setting(arguments: argparse.Namespace, seed: int, root: Path) -> Setting:
    return Setting(
        seed=seed,
        minutes=arguments.minutes,
        nodes=arguments.nodes,
        managers=arguments.managers,
        folder=new_folder(root, seed),
    )


def say(sentence: str) -> None:
    """Tell the person at the terminal."""
    sys.stdout.write(f"{sentence}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
