"""The whole product on a real cluster that is broken for minutes, and keeps its promises.

Always the same seed, so that a failure is about the change that met it; other seeds are looked for
by night (`make chaos HOURS=8`). The draw is repeated, not where it meets the work: a seed that
failed may have to be run a few times.

    CHAOS_SEED=7 CHAOS_MINUTES=30 python -m pytest tests/chaos/cluster/test_chaos.py
"""

from __future__ import annotations

import faulthandler
import os

import pytest

from tests.chaos.cluster.laboratory import FOLDERS, MANAGERS, NODES, laboratory, new_folder
from tests.chaos.cluster.run import Setting, run

pytestmark = pytest.mark.slow

SEED = 6
MINUTES = 10.0


def test_a_cluster_that_is_broken_keeps_its_promises(can_run_labs: None) -> None:
    """Nodes, engines, network, peers, leader, disks and services fail while clients hand in films:
    each task has one result or one escalation, and nothing is left of anything."""
    faulthandler.cancel_dump_traceback_later()  # pytest's, for tests of more than five minutes
    seed = int(os.environ.get("CHAOS_SEED", SEED))
    setting = Setting(
        seed=seed,
        minutes=float(os.environ.get("CHAOS_MINUTES", MINUTES)),
        nodes=NODES,
        managers=MANAGERS,
        folder=new_folder(FOLDERS, seed),
    )
    with laboratory() as lab:
        verdict = run(lab, setting)
    assert not verdict.objections, f"{verdict.text}Everything of it: {setting.folder}"
