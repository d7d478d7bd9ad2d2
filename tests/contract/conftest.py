"""The ledger's contract holds on the tables of the next version, too.

A cluster is upgraded peer by peer: whoever comes first migrates, and the others work on with tables
that know more than they do. So what says how the ledger behaves runs on both.
"""

from __future__ import annotations

import pytest

from tests.later_version import LATER, TODAY

ON_BOTH = {
    f"tests.contract.{name}"
    for name in (
        "test_aftermath",
        "test_backlog",
        "test_desk",
        "test_ledger",
        "test_queue_embedded",
        "test_scaling_journal",
        "test_undertaking",
    )
}
"""What a peer does that works, leads, buries the dead and answers people."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test of a ledger twice."""
    if metafunc.module.__name__ in ON_BOTH and "ledger_url" in metafunc.fixturenames:
        metafunc.parametrize("ledger_url", [TODAY, LATER], indirect=True)
