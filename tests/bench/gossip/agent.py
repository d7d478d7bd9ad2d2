"""A peer that does nothing but gossip: what the bench runs a hundred of on two cores.

    python -m tests.bench.gossip.agent --listen 127.0.0.5:7946 --join 127.0.0.1:7946 --key-file K

It is the product's `MembershipService` with sealed datagrams, and no pipeline, ledger or
configuration around it. It writes a line of JSON for its start and for every change; on SIGUSR1 one
with what it knows and has measured. With `--wait` it joins nobody until SIGUSR2. SIGINT makes it
leave in good order; SIGTERM ends it without a word.

`at` is `time.monotonic()`, which all processes of a machine share; `wall` is the time of day.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import secrets
import signal
import time
from pathlib import Path
from typing import Any

import trio

from gossip import keys
from gossip.addresses import HostPort, parse_address
from gossip.load import Load
from gossip.resolving import Resolved, resolve
from gossip.rows import Body, State
from gossip.sealing import SealedEnvelope
from membership.changes import (
    Change,
    KeysChanged,
    LeaderProposed,
    OrderAnswered,
    OrderReceived,
)
from membership.config import lan, quiet
from membership.service import MembershipService

LABEL = "bench"


class Agent:
    """The service, and what is written about it."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._file = os.open(options.out, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._told = trio.Event()
        if not options.wait:
            self._told.set()
        listen = parse_address(options.listen, any_port=True)
        uid, epoch = secrets.randbits(64), int(time.time())
        ring = keys.first(keys.parse_material(Path(options.key_file).read_text()))
        self._service = MembershipService(
            quiet() if options.quiet else lan(),
            listen=(listen.host, listen.port),
            seeds=[parse_address(seed) for seed in options.join],
            uid=uid,
            epoch=epoch,
            body=Body(address=("", 0), name=options.name, eligible=True),
            envelope=SealedEnvelope(
                label=LABEL, keys=ring, uid=uid, epoch=epoch, salt=secrets.randbits(32)
            ),
            emit=self._write_change,
            resolve=self._resolve,
        )

    async def run(self) -> None:
        """Take part until SIGINT."""
        signals = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT)
        with trio.open_signal_receiver(*signals) as received:
            async with trio.open_nursery() as nursery:
                await nursery.start(self._service.run)
                own = self._service.own
                started = {"uid": f"{own.uid:016x}", "epoch": own.epoch, "pid": os.getpid()}
                self._write({"change": "Started", **started})
                if self._options.load_hz:
                    nursery.start_soon(self._tell_load)
                async for number in received:
                    if number == signal.SIGUSR1:
                        self._write({"dump": self._dump()})
                    elif number == signal.SIGUSR2:
                        self._told.set()
                    else:
                        await self._service.leave()
                        break
                nursery.cancel_scope.cancel()

    async def _resolve(self, seed: HostPort, timeout_s: float) -> Resolved:
        await self._told.wait()
        return await resolve(seed, timeout_s)

    async def _tell_load(self) -> None:
        """Say something else each time, as a busy peer does."""
        rng = random.Random(self._service.own.uid)
        while True:
            load = Load(cpu=rng.random(), memory=rng.random(), slots=2, running=rng.randrange(3))
            self._service.set_load(load)
            await trio.sleep(1 / self._options.load_hz)

    def _dump(self) -> dict[str, Any]:
        view = self._service.view()
        states = [member.row.state for member in view.members]
        ages_s = [
            round(member.load_age_s, 3)
            for member in view.members
            if not member.own
            and member.row.state is State.ALIVE
            and not math.isinf(member.load_age_s)
        ]
        return {
            "fingerprint": f"{self._service.fingerprint():x}",
            "members": {state.name: states.count(state) for state in State},
            "leader": None if view.leader is None else f"{view.leader:016x}",
            "load_ages_s": ages_s,
            "lag": {f"{bound_s:.6f}": late for bound_s, late in self._service.lag.bars().items()},
            "lag_p999_s": self._service.lag.quantile_s(0.999),
            "counters": self._service.counters(),
            "cpu_s": time.process_time(),
        }

    def _write_change(self, change: Change) -> None:
        line: dict[str, Any] = {"change": type(change).__name__}
        match change:
            case KeysChanged() | OrderReceived() | OrderAnswered():
                return  # nobody asks for these here, and keys are not written anywhere
            case LeaderProposed(uid=leader):
                line["uid"] = None if leader is None else f"{leader:016x}"
            case _:
                for name in type(change).__slots__:
                    value = getattr(change, name)
                    if name == "row":
                        line |= {
                            "uid": f"{value.uid:016x}",
                            "name": value.body.name,
                            "epoch": value.epoch,
                            "incarnation": value.incarnation,
                        }
                    elif isinstance(value, State):
                        line[name] = value.name
                    elif isinstance(value, int | float):
                        line[name] = value
        self._write(line)

    def _write(self, line: dict[str, Any]) -> None:
        line |= {"at": round(time.monotonic(), 6), "wall": round(time.time(), 6)}
        os.write(self._file, json.dumps(line).encode() + b"\n")


def main() -> None:
    """Read the options and run."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--name", default="")
    parser.add_argument("--listen", default="127.0.0.1:0", help="host:port; port 0 for any")
    parser.add_argument("--join", action="append", default=[], help="host:port; may be repeated")
    parser.add_argument("--key-file", required=True, help="32 bytes in hexadecimal or base64")
    parser.add_argument("--load-hz", type=float, default=0.0, help="new loads a second; 0: none")
    parser.add_argument("--out", default="/dev/stdout", help="where the lines go")
    parser.add_argument("--wait", action="store_true", help="join nobody until SIGUSR2")
    parser.add_argument("--quiet", action="store_true", help="the profile with less traffic")
    agent = Agent(parser.parse_args())
    trio.run(agent.run)


if __name__ == "__main__":
    main()
