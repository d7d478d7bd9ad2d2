"""That the contracts on who may import whom catch what they are there for.

`make lint` shows that the tree keeps them. A contract with a wrong module name keeps quiet just as
well, so each is shown a break here, in a copy.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("peer", "gossip", "membership", "pipeline", "scaling")
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"][
    "contracts"
]

BREAKS = [
    ("rooms", "pipeline/tasks.py", "import peer.config"),
    ("rooms", "pipeline/worker.py", "import scaling.events"),
    ("rooms", "gossip/events.py", "import membership.events"),
    ("gossip", "scaling/events.py", "import gossip.events"),
    ("outside", "peer/usage.py", "import asyncio"),
    ("outside", "pipeline/worker.py", "import tests"),
    ("pure", "gossip/table.py", "import os"),
    ("pure", "membership/cluster.py", "import time"),
    ("pure", "membership/health.py", "import gossip.udp"),
    ("pure", "pipeline/retry.py", "import time"),
    ("pure", "pipeline/tasks.py", "import random"),
    ("pure", "pipeline/events.py", "from pipeline.media import process"),
    ("loops", "pipeline/worker.py", "import pipeline.ledger.database"),
    ("loops", "pipeline/sweeper.py", "import psycopg"),
    ("media", "pipeline/media/process.py", "import pipeline.retry"),
    ("ledger", "pipeline/ledger/database.py", "import pipeline.stores"),
    ("queues", "pipeline/queues/__init__.py", "import pipeline.worker"),
    ("stores", "pipeline/stores/__init__.py", "import pipeline.ledger.database"),
    ("peerctl", "peer/commands/tasks.py", "import trio"),
    ("peerctl", "peer/client.py", "import peer.agent"),
]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The packages and the contracts, in a directory of their own."""
    for room in ROOMS:
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


@pytest.mark.parametrize(("contract", "module", "line"), BREAKS)
def test_a_contract_catches_its_break(copy: Path, contract: str, module: str, line: str) -> None:
    """One forbidden import in the right place breaks the contract that forbids it."""
    with (copy / module).open("a") as file:
        file.write(f"\n{line}\n")
    checked = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache", "--contract", contract],
        cwd=copy,
        env={"PYTHONPATH": str(copy)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Contracts: 0 kept, 1 broken." in checked.stdout
    assert checked.returncode == 1


def test_every_contract_is_shown_a_break() -> None:
    """A new contract comes with the import that it is there to catch."""
    assert {contract for contract, _, _ in BREAKS} == {contract["id"] for contract in CONTRACTS}
