"""Gossip side by side with serf, and one table: what was promised, what each did just now.

    python -m tests.bench.gossip                        the whole table, in about 45 minutes
    python -m tests.bench.gossip --quick                a smoke test of a few minutes, N=30
    python -m tests.bench.gossip kill join --peers 50   some lines of it
    python -m tests.bench.gossip loss30 --minutes 10    … for as long as the goal says

As root: everything runs in namespaces of its own (`namespace.py`). serf, iptables and ffmpeg are
Debian's. Every scenario brings up a new cluster of one product, then one of the other, with the
same victims at the same moments, and the products take turns in being first. Exit status 1 when a
goal is missed. Measure on a machine that does nothing else.

serf runs unencrypted, and without loads but where they are measured; ours is always sealed, and its
loads are always on.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tests.bench.gossip import costs, detection, mistakes, namespace
from tests.bench.gossip.fleet import TimedOut
from tests.bench.gossip.goals import Outcome, Records, print_table, tell
from tests.bench.gossip.memory import memory
from tests.bench.gossip.ours import Ours
from tests.bench.gossip.processes import Crashed, Processes
from tests.bench.gossip.products import Product
from tests.bench.gossip.serf import Serf
from tests.bench.gossip.setting import Plan, Setting, full, quick

SCENARIOS: Mapping[str, Callable[[Setting], Outcome]] = {
    "kill": detection.kill,
    "loss30": mistakes.loss30,
    "hogged": mistakes.hogged,
    "freeze": mistakes.freeze,
    "loads": costs.loads,
    "idle": costs.idle,
    "memory": memory,
    "join": detection.join,
}
PRODUCTS = ("serf", "ours")


def main(arguments: Sequence[str]) -> int:
    """Run what was asked for, and print the table."""
    inside = arguments[:1] == [namespace.INSIDE]
    options = _parse(arguments[2:] if inside else arguments)
    namespace.enter("tests.bench.gossip", arguments)
    # The first process of a process namespace is not ended by a signal that it does not expect.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    raw = options.raw or Path(tempfile.mkdtemp(prefix="grapevine-gossip-"))
    raw.mkdir(parents=True, exist_ok=True)
    _say(f"raw numbers: {raw}")
    with tempfile.TemporaryDirectory(prefix="grapevine-bench-") as scratch, Processes() as running:
        products = [
            Ours(Path(scratch)) if name == "ours" else Serf(namespace.require("serf", "serf"))
            for name in ([options.only] if options.only else PRODUCTS)
        ]
        outcomes = _measure(options, products, running, Records(raw))
    return 0 if print_table(outcomes) else 1


def _measure(
    options: argparse.Namespace,
    products: Sequence[Product],
    running: Processes,
    records: Records,
) -> Mapping[str, Mapping[str, Outcome]]:
    plan = _plan(options)
    outcomes: dict[str, dict[str, Outcome]] = {}
    for number, scenario in enumerate(options.scenarios or SCENARIOS):
        outcomes[scenario] = {}
        # A B, then B A: what drifts during the run is on both sides.
        for product in products if number % 2 == 0 else reversed(products):
            setting = Setting(
                product=product,
                plan=plan.for_anchor() if product.name == "serf" else plan,
                processes=running,
                records=records,
                seed=options.seed,
            )
            began = time.monotonic()
            try:
                outcome = SCENARIOS[scenario](setting)
            except (Crashed, TimedOut) as error:
                outcome = Outcome(failed=str(error))
            outcomes[scenario][product.name] = outcome
            _say(f"{tell(scenario, product.name, outcome)} [{time.monotonic() - began:.0f} s]")
    return outcomes


def _plan(options: argparse.Namespace) -> Plan:
    plan = quick(options.peers or 30) if options.quick else full(options.peers or 100)
    if options.minutes is not None:
        seconds = 60 * options.minutes
        plan = replace(plan, loss30_s=seconds, hogged_s=seconds, freeze_s=seconds)
    if options.kills is not None:
        plan = replace(plan, kills=options.kills)
    return plan


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.gossip", description="Measure gossip side by side with serf."
    )
    add = parser.add_argument
    add("scenarios", nargs="*", metavar="scenario", help=f"some of {', '.join(SCENARIOS)}")
    add("--peers", type=int, help="agents of each product (default: 100; quick: 30)")
    add("--minutes", type=float, help="how long loss, hogs and freezes last (default: 4)")
    add("--kills", type=int, help="how many of ours are killed (default: 30)")
    add("--quick", action="store_true", help="a smoke test: its numbers prove nothing")
    add("--only", choices=PRODUCTS, help="one product alone")
    add("--seed", type=int, default=1, help="decides victims and moments (default: 1)")
    add("--raw", type=Path, help="where the raw numbers go (default: a new directory)")
    options = parser.parse_args(arguments)
    if unknown := sorted(set(options.scenarios) - set(SCENARIOS)):
        parser.error(f"no such scenario: {', '.join(unknown)}; there are {', '.join(SCENARIOS)}")
    if options.peers is not None and options.peers < 3:
        parser.error("--peers: a quorum takes at least 3")
    return options


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
