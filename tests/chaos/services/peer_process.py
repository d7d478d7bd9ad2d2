"""A peer in a process of its own, so that it can be killed and frozen.

    python -m tests.chaos.services.peer_process '{"settings": …, "plan": {"ID": "TaskReceived"}, …}'

It says on its standard output where it answers pings (`port N`), and when a task has come to its
gate (`held ID`). The gates open when it reads a line; it ends, handing back what it has, when its
standard input does, or by SIGTERM.
"""

from __future__ import annotations

import logging
import signal
import sys
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import trio

from tests.chaos.services.gates import Gate, Gates
from tests.chaos.services.peer import Settings, working
from tests.chaos.services.pings import answer_pings, asking
from tests.chaos.services.small import DigestTranscoder


class Orders(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What the process is told at its start.

    Args:
        plan: Which task it holds at which gate.
        pings: Where other peers answer pings, by their uids.
        takes_s: How long a task's transcoding takes.
    """

    settings: Settings
    plan: dict[UUID, Gate] = {}
    pings: dict[str, int] = {}
    takes_s: float = 0.0


def write_orders(orders: Orders) -> str:
    """Make an argument of them."""
    return msgspec.json.encode(orders, enc_hook=str).decode()


def read_orders(text: str) -> Orders:
    """Read that argument."""

    def path(type: type[Any], value: str) -> Path:
        assert type is Path
        return Path(value)

    return msgspec.json.decode(text, type=Orders, dec_hook=path)


def say(line: str) -> None:
    """Tell who started us."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def main(orders: Orders) -> None:
    """Work until told to stop."""
    gates = Gates(orders.plan, lambda task_id: say(f"held {task_id}"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_stop_on_signal, nursery.cancel_scope)
        port = await nursery.start(answer_pings, orders.settings.epoch)
        say(f"port {port}")
        nursery.start_soon(_listen, gates, nursery.cancel_scope)
        transcoder = DigestTranscoder(takes_s=orders.takes_s)
        answers = asking(orders.pings)
        async with working(orders.settings, transcoder, gates=gates, answers=answers):
            await trio.sleep_forever()


async def _stop_on_signal(peer: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async for _ in signals:
            peer.cancel()


async def _listen(gates: Gates, peer: trio.CancelScope) -> None:
    async with trio.lowlevel.FdStream(sys.stdin.fileno()) as stdin:
        while await stdin.receive_some():
            gates.open()
    peer.cancel()


if __name__ == "__main__":
    logging.basicConfig(format="%(asctime)s %(name)s %(message)s", level=logging.WARNING)
    trio.run(main, read_orders(sys.argv[1]))
