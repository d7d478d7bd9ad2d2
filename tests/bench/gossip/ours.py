"""Our side: `agent.py`, sealed with AES-GCM, with the product's own settings, loads always on.

The agent writes a line of JSON for each change, and one in answer to SIGUSR1.
"""

from __future__ import annotations

import json
import secrets
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench.gossip.namespace import PORT, address
from tests.bench.gossip.products import Agent, Dump, Kind, Said

if TYPE_CHECKING:
    from tests.bench.gossip.fleet import Fleet

KINDS = {
    "MemberJoined": Kind.JOINED,
    "MemberSuspected": Kind.SUSPECTED,
    "MemberDied": Kind.DIED,
}


class Ours:
    """The product of this repository.

    Args:
        directory: Where the key of its cluster is written to, as `key_file`.
    """

    name = "ours"
    lossy: Sequence[str] = ("udp",)
    spreads_suspicion = True

    def __init__(self, directory: Path) -> None:
        self.key_file = directory / "key"
        self.key_file.write_text(secrets.token_hex(32))
        self.key_file.chmod(0o600)

    def command(self, index: int, *, join: Sequence[str]) -> list[str]:
        """Return how to start an agent. One that waits joins the first address."""
        seeds = join or [address(0)]
        return [
            sys.executable,
            "-m",
            "tests.bench.gossip.agent",
            f"--name=ours-{index:03d}",
            f"--listen={address(index)}:{PORT}",
            *(f"--join={seed}:{PORT}" for seed in seeds),
            f"--key-file={self.key_file}",
            "--load-hz=1",
            "--out=/dev/stdout",
            *([] if join else ["--wait"]),
        ]

    def read(self, agent: Agent, at: float, text: str) -> Said | None:
        """Understand one of an agent's lines."""
        if not text.startswith("{"):
            return None
        line = json.loads(text)
        if "dump" in line:
            agent.answers.append(text)
            return None
        if line["change"] == "Started":
            agent.key = line["uid"]
            agent.ready = True
        kind = KINDS.get(line["change"])
        if kind is None:
            return None
        episode = f"{line['uid']}.{line['epoch']}.{line['incarnation']}"
        return Said(at, agent.index, kind, line["uid"], episode)

    def join(self, agents: Sequence[Agent], seed: str) -> None:
        """Let all of them begin; whom to join they know."""
        del seed
        for agent in agents:
            agent.process.signal(signal.SIGUSR2)

    def start_loads(self, agents: Sequence[Agent]) -> None:
        """Nothing to do: loads are always on."""

    def stop_loads(self) -> None:
        """Nothing to do."""

    def dump(self, fleet: Fleet, agents: Sequence[Agent]) -> list[Dump]:
        """Ask agents for their dump."""
        dumps = [json.loads(text)["dump"] for text in fleet.ask(agents, signal.SIGUSR1)]
        return [
            Dump(
                load_ages_s=dump["load_ages_s"],
                late={float(bound_s): count for bound_s, count in dump["lag"].items()},
                fingerprint=dump["fingerprint"],
            )
            for dump in dumps
        ]
