"""Who of several workers (pytest-xdist) runs which tests: those that start something together."""

from __future__ import annotations

from xdist.scheduler import LoadScopeScheduling

ON_A_SWARM = ("tests/swarm/", "tests/chaos/cluster/test_chaos.py")


class Shares(LoadScopeScheduling):
    """A worker takes a whole file, and one takes all that needs a real Swarm: there is one for all.

    `--dist loadgroup` would do the same by marks, but pytest-xdist 3.8 loses them with pytest 9.2.
    """

    def _split_scope(self, nodeid: str) -> str:
        needs_a_swarm = nodeid.startswith(ON_A_SWARM) or nodeid.endswith("[lab]")
        return "a real Swarm" if needs_a_swarm else nodeid.partition("::")[0]
