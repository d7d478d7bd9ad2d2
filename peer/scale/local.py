"""Scaling on one machine: peers are processes, started and stopped by those that run here."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from peer.config import Config
from peer.ended import Ended
from peer.errors import ConfigError
from peer.scale.ledger import QUERIES, LedgerDemand, ScalingDatabase
from peer.scale.opening import Means, Surroundings
from pipeline.ledger.queries import Queries
from scaling.ledger.lease import LedgerLease
from scaling.local.orchestrator import LocalOrchestrator
from scaling.local.records import Records
from scaling.local.register import Register
from scaling.local.sight import failed
from scaling.local.steps import Rules
from scaling.local.tender import Tender
from scaling.ports import Sight
from scaling.snapshot import NodeState, PeerSight

SCOPE = "local"
NAME = "processes of this machine"
LEASE_S = 15.0
HANDING_BACK_S = 10.0
"""What a peer may take after its own grace is over, to hand its work back."""


def open_local(
    config: Config, database: ScalingDatabase, around: Surroundings, demand: LedgerDemand
) -> Means:
    """Put it together. Every peer tends the containers when it is its turn, leader or not.

    Args:
        demand: What the ledger said of the work last.

    Raises:
        ConfigError: The directory of the containers cannot be used.
    """
    settings = config.scaling
    records = Records(config.places.containers)
    try:
        place = records.place()
    except OSError as error:
        raise ConfigError(
            f"cannot use {config.places.containers}: {error.strerror}; choose another --data-dir"
        ) from error
    names = [f"{settings.pool}-{number}" for number in range(1, settings.nodes_max + 1)]
    register = Register(
        database,
        Queries.load("scaling.local", "queries.sql"),
        scope=SCOPE,
        place=place,
        nodes=names[: settings.nodes_min],
    )
    rules = Rules(
        capacity=settings.containers_per_node, grace_s=config.peer.stop_grace_s + HANDING_BACK_S
    )
    tender = Tender(
        records,
        register,
        own=around.container,
        start=lambda record: around.likeness.launch(record, config),
        rules=rules,
    )

    orchestrator = LocalOrchestrator(
        records,
        register,
        nodes=names,
        rules=rules,
        work=partial(_work, around, demand),
        changed=tender.wake,
        own=around.container,
    )

    async def describe() -> str:
        sight = await orchestrator.observe()
        serving = sum(node.state is NodeState.READY for node in sight.nodes)
        return f"{NAME}: {sight.wanted} containers wanted on {serving} of {len(names)} nodes"

    return Means(
        scope=SCOPE,
        name=NAME,
        orchestrator=orchestrator,
        lease=LedgerLease(database, QUERIES, scope=SCOPE, lease_s=LEASE_S),
        lease_s=LEASE_S,
        describe=describe,
        warnings=orchestrator.warnings,
        advice="make sure that the ledger answers, and that this data directory can be written",
        on_sight=partial(_find_ended, around),
        beside=(tender.run,),
    )


def _work(around: Surroundings, demand: LedgerDemand) -> dict[str, PeerSight]:
    """What the peers say, and how long they will work, which only the ledger knows."""
    left_s = demand.remaining_s
    return {
        container: replace(peer, remaining_s=left_s.get(peer.uid) if peer.running else 0.0)
        for container, peer in around.peers.sights().items()
    }


def _find_ended(around: Surroundings, before: Sight | None, after: Sight) -> None:
    for container in failed(before, after):
        around.ended(
            Ended(
                container=container.id,
                node=container.node,
                reason="its process has ended",
                exit_code=None,
                out_of_memory=False,  # its next life knows, by its control group
            )
        )
