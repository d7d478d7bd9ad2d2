"""Which orchestrator and provider there is, by the configuration: the only place that names them.

The clients of services are loaded only where they are used, as in `peer/adapters.py`.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from membership.view import View
from peer.config import Config
from peer.control import Command
from peer.ended import Ended
from peer.errors import ConfigError
from peer.likeness import Likeness
from peer.metrics.decisions import CountingJournal
from peer.scale.apart import kept_apart
from peer.scale.ledger import QUERIES, LedgerDemand, ScalingDatabase, event_writer
from peer.scale.reach import Reach
from peer.scale.requests import ScaleRequests
from peer.scaling_peers import departed
from pipeline.backlog import Workload
from pipeline.events import Recorder
from pipeline.ledger.database import Database
from pipeline.ports import TaskQueue
from scaling.controller import Controller, MakeCreator, OnSight, World, unheard
from scaling.creating import Creator
from scaling.intents import Intents
from scaling.ledger.journal import LedgerJournal
from scaling.ports import Lease, NodeProvider, Orchestrator, Peers, Sight
from scaling.providers.errors import ProviderRefused
from scaling.providers.join import JoinSource, join_source
from scaling.tenure import Tenure
from scaling.upkeep import UpkeepRules

Run = Callable[[], Awaitable[None]]

SILENCE_MIN_S = 60.0
ROUNDS_MISSED = 4
"""A leader that has missed so many rounds leads no more, whatever its term is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What scaling needs of the peer.

    Args:
        holder: Which peer this is: 16 hexadecimal digits.
        view: What it believes of the cluster.
        may_lead: Told whether this peer reaches the orchestrator, at each change.
        container: What it calls its own container.
        likeness: How another peer like this one is started.
        ended: Told of each container that has ended without being told to.
    """

    database: Database
    ledger: Workload
    queue: TaskQueue
    recorder: Recorder
    peers: Peers
    holder: Callable[[], str]
    view: Callable[[], View]
    may_lead: Callable[[bool], None]
    container: str
    likeness: Likeness
    ended: Callable[[Ended], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What one kind of orchestrator brings.

    Args:
        scope: Its name in the ledger.
        name: In a few words, for people.
        lease_s: For how long the lease holds.
        reach: Where not every peer reaches it.
        describe: Look, and say how it is; raises `ScalingError`.
        warnings: What is wrong with how it is set up, as sentences.
        advice: What to do when it cannot be reached.
        on_sight: Told of each look of the controller's, and of the one before.
        watch: Nudges when something has happened, until it is cancelled.
        beside: What goes on in every peer, whether it leads or not.
    """

    scope: str
    name: str
    orchestrator: Orchestrator
    lease: Lease
    lease_s: float
    describe: Callable[[], Awaitable[str]]
    warnings: Callable[[], Awaitable[Sequence[str]]]
    advice: str
    make_creator: MakeCreator | None = None
    on_sight: OnSight = unheard
    reach: Reach | None = None
    watch: Callable[[Callable[[], None]], Awaitable[None]] | None = None
    beside: Sequence[Run] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """A peer's part in scaling.

    Args:
        beside: What goes on beside the work, each until it is cancelled.
        notice: Told when the cluster has changed; cheap.
        resign: Told when this peer is to end: it leads no more.
        led: Whether somebody is proposed to lead.
        means: None where nothing scales.
        governing: What tells of this peer's decisions, and whether it may make any; the same.
    """

    commands: Mapping[str, Command]
    beside: Sequence[Run]
    notice: Callable[[], None]
    resign: Callable[[], None]
    led: Callable[[], bool]
    means: Means | None
    governing: tuple[CountingJournal, Tenure] | None = None


@contextmanager
def open_scaling(config: Config, around: Surroundings) -> Iterator[Scaling]:
    """Put it together. Nothing is reached yet.

    Raises:
        ConfigError: A provider cannot be used as it is configured.
    """
    database = ScalingDatabase(around.database)
    # A broker may hold what the ledger has not heard of yet; the embedded queue is the ledger's.
    broker = None if config.queue.url is None else around.queue
    demand = LedgerDemand(around.ledger, broker, config.scaling.policy)
    with _open_means(config, database, around, demand) as means:
        if means is None:
            requests = ScaleRequests(None, orchestrator="", view=around.view)
            yield Scaling(
                commands=requests.commands(),
                beside=(),
                notice=lambda: None,
                resign=lambda: None,
                led=lambda: False,
                means=None,
            )
            return
        yield _put_together(config, database, around, means, demand)


def _put_together(
    config: Config,
    database: ScalingDatabase,
    around: Surroundings,
    means: Means,
    demand: LedgerDemand,
) -> Scaling:
    policy = config.scaling.policy
    journal = LedgerJournal(
        database,
        QUERIES,
        scope=means.scope,
        write_events=event_writer(around.recorder),
        silence_s=max(SILENCE_MIN_S, ROUNDS_MISSED * policy.interval_s),
    )
    counting = CountingJournal(journal)
    world = World(
        orchestrator=means.orchestrator,
        demand=demand,
        peers=around.peers,
        journal=counting,
        make_creator=means.make_creator,
        on_sight=means.on_sight,
    )
    controller = Controller(world, policy, name=config.peer.name, dry_run=config.scaling.dry_run)
    tenure = Tenure(
        means.lease,
        around.holder,
        lease_s=means.lease_s,
        leads=around.peers.leads,
        changed=controller.nudge,
    )

    def notice() -> None:
        controller.nudge()
        tenure.wake()

    beside: list[Run] = [
        kept_apart(tenure.run, "lease"),
        kept_apart(partial(controller.run, tenure), "rounds"),
        *(kept_apart(run, "containers") for run in means.beside),
    ]
    if means.reach is not None:
        beside.append(kept_apart(means.reach.run, "reach"))
    if means.watch is not None:
        beside.append(kept_apart(partial(means.watch, controller.nudge), "events"))
    requests = ScaleRequests(journal, orchestrator=means.name, view=around.view, reach=means.reach)
    return Scaling(
        commands=requests.commands(),
        beside=beside,
        notice=notice,
        resign=tenure.resign,
        led=lambda: around.view().leader is not None,
        means=means,
        governing=(counting, tenure),
    )


@contextmanager
def _open_means(
    config: Config, database: ScalingDatabase, around: Surroundings, demand: LedgerDemand
) -> Iterator[Means | None]:
    match config.scaling.orchestrator:
        case "swarm":
            with _open_swarm(config, around) as means:
                yield means
        case "local":
            from peer.scale.local import open_local  # noqa: PLC0415 - see above

            yield open_local(config, database, around, demand)
        case "none":
            yield None


@contextmanager
def _open_swarm(config: Config, around: Surroundings) -> Iterator[Means]:
    from scaling.swarm.client import Managers  # noqa: PLC0415 - see above
    from scaling.swarm.intents import SwarmIntents  # noqa: PLC0415
    from scaling.swarm.joining import ask_join  # noqa: PLC0415
    from scaling.swarm.lease import SwarmLease  # noqa: PLC0415
    from scaling.swarm.nudges import watch  # noqa: PLC0415
    from scaling.swarm.orchestrator import SwarmOrchestrator  # noqa: PLC0415

    swarm = config.scaling.swarm_config
    managers = Managers(swarm)

    def make() -> SwarmOrchestrator:
        return SwarmOrchestrator(
            managers,
            swarm,
            leader=config.peer.name,
            heard=lambda: around.peers.sights().keys(),
            departed=lambda: departed(around.view().members),
        )

    # A look remembers what was new in it. The controller's must not be used up by others.
    orchestrator, onlooker = make(), make()
    name = f"Docker Swarm, service {swarm.service}"

    async def describe() -> str:
        sight = await onlooker.observe()
        nodes = ", ".join(f"{node.name} {node.state}" for node in sight.nodes) or "none"
        return f"{name}: {sight.wanted} containers wanted; nodes: {nodes}"

    def find_ended(before: Sight | None, after: Sight) -> None:
        for failure in orchestrator.failures(before, after):
            # What was lost with its node may run on there: that its peer is dead, gossip finds.
            if failure.exit_code is not None:
                around.ended(
                    Ended(
                        container=failure.id,
                        node=failure.node,
                        reason=failure.reason,
                        exit_code=failure.exit_code,
                        out_of_memory=failure.out_of_memory,
                    )
                )

    try:
        yield Means(
            scope=f"swarm:{swarm.service}",
            name=name,
            orchestrator=orchestrator,
            lease=SwarmLease(managers, swarm),
            lease_s=swarm.lease_s,
            describe=describe,
            warnings=onlooker.warnings,
            advice="nobody scales before one peer reaches a manager: run one there with Docker's "
            "socket, or name managers in scaling.swarm.managers",
            make_creator=creators(
                config, SwarmIntents(managers, swarm), partial(ask_join, managers)
            ),
            on_sight=find_ended,
            reach=Reach(onlooker.observe, around.may_lead),
            watch=partial(watch, managers),
        )
    finally:
        managers.close()


def creators(config: Config, intents: Intents, ask: JoinSource | None) -> MakeCreator | None:
    """What makes and destroys machines; None where only those are used that have joined.

    Raises:
        ConfigError: The provider cannot be used as it is configured.
    """
    settings, provider = config.scaling, config.scaling.provider_config
    if not provider.makes_nodes:
        return None
    machines = _open_provider(
        config, join_source(provider.join_token, provider.join_addresses, ask)
    )
    rules = UpkeepRules(
        pool=settings.pool,
        machines_max=settings.nodes_max,
        boot_timeout_s=settings.boot_timeout_s,
        settle_s=provider.settle_s,
    )

    def make(term: int, may_act: Callable[[], bool]) -> Creator:
        return Creator(machines, intents, rules, term=term, may_act=may_act)

    return make


def _open_provider(config: Config, join: JoinSource) -> NodeProvider:
    provider = config.scaling.provider_config
    if provider.kind == "exec":
        from scaling.providers.commands import ExecProvider  # noqa: PLC0415 - see above

        return ExecProvider(provider, join, os.environ)
    from scaling.providers.cloud import LibcloudProvider  # noqa: PLC0415

    try:
        return LibcloudProvider(provider, join)
    except ProviderRefused as error:
        raise ConfigError(str(error)) from error
