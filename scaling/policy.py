"""What there should be: one pure function, the same in production, in tests and in the simulator.

    trust      may this be acted on?                      else hold
    gates      the user's rules: more, fewer, or the same
    need       how many containers the work takes
    amount     how many there should be: need, gate, band, window, limits
    placing    which nodes that takes
    leaving    which node it does not take any more

Everything it looks at is in the snapshot, and everything it remembers in the memory that it
returns, so a decision can be repeated from what was recorded (scaling/record.py). Reasons are
collected on the way, also for what was not done: "why does it not scale?" is what people ask of
other autoscalers.
"""

from __future__ import annotations

from dataclasses import replace

from scaling.amount import amount
from scaling.config import ScalingConfig
from scaling.decision import Decision, Desired, Reason
from scaling.gates import Direction, gate
from scaling.leaving import choose, on_node
from scaling.memory import Memory
from scaling.need import drained, need
from scaling.placing import IN_SERVICE, on_their_way, place, reach
from scaling.snapshot import ContainerState, NodeState, Snapshot
from scaling.trust import why_held, why_kept, why_left_alone
from scaling.utilization import look, look_for_failures


def decide(snapshot: Snapshot, config: ScalingConfig, memory: Memory) -> tuple[Decision, Memory]:
    """Say how many containers and nodes there should be, and why.

    Args:
        snapshot: Not older than the one before it.
        memory: What the last call returned; `Memory()` for a new leader's first.
    """
    held = why_held(snapshot, config)
    if held is not None:
        return _held(snapshot, config, memory, held)
    demand = snapshot.demand
    assert demand is not None, "what is not known is held"
    levels, crossed = look(snapshot, config, memory.levels)
    needed = need(demand, snapshot.containers, config)
    memory = replace(
        memory,
        levels=levels,
        boots=memory.boots.looking(snapshot, config.boot_timeout_s),
        needs=memory.needs.noting(
            snapshot.now_s,
            min(needed.containers, config.containers_max),
            span_s=config.down_window_s,
            gap_s=config.stale_s + config.interval_s,
        ),
    )
    idle_by_hand = drained(snapshot.containers)
    open_gate = gate(demand, levels, config, present=max(0, snapshot.wanted - idle_by_hand))
    left_alone = why_left_alone(snapshot)
    kept = left_alone or why_kept(snapshot, config, memory.needs)
    chosen = amount(
        snapshot,
        demand,
        config,
        memory,
        gate=open_gate,
        need=needed,
        reach=reach(snapshot, config, memory),
        kept=kept,
    )
    memory = chosen.memory
    growing = open_gate.direction is Direction.UP or chosen.containers > snapshot.wanted
    # After a node was lost, nobody needs a place for containers that are about to be taken away.
    # Those that are being replaced are not: an update waits until each of them has one.
    all_placed = growing or left_alone is not None
    places = max(memory.needs.largest + idle_by_hand, config.containers_min)
    placing = place(
        snapshot,
        config,
        memory,
        containers=chosen.containers if all_placed else min(chosen.containers, places),
    )
    # Fewer containers first: the node that holds the rest of them is then known.
    may_leave = (
        kept is None
        and not placing.starting
        and chosen.containers == snapshot.wanted
        and (
            open_gate.direction is Direction.DOWN
            or (open_gate.direction is Direction.SAME and memory.leaving != "")
        )
    )
    leaving, leaving_reasons = (
        choose(snapshot, config, memory, containers=chosen.containers) if may_leave else ("", ())
    )
    desired = Desired(
        containers=chosen.containers,
        nodes=placing.nodes - (1 if leaving else 0),
        parked=_peers_on(snapshot, leaving),
        leaving=_leaving(snapshot, leaving),
        starting=placing.starting,
        room=placing.room,
    )
    reasons = (*open_gate.reasons, *chosen.reasons, *placing.reasons, *leaving_reasons)
    decision = Decision(desired, held=False, reasons=_and(reasons, left_alone), crossed=crossed)
    return decision, replace(memory, leaving=leaving)


def _and(reasons: tuple[Reason, ...], more: Reason | None) -> tuple[Reason, ...]:
    """Say one more, unless it has been said."""
    return reasons if more is None or more in reasons else (*reasons, more)


def _held(
    snapshot: Snapshot, config: ScalingConfig, memory: Memory, why: Reason
) -> tuple[Decision, Memory]:
    """Change nothing. A failure is shown once, so it is noted all the same."""
    levels, crossed = look_for_failures(snapshot, config, memory.levels)
    as_it_is = _as_it_is(snapshot, memory)
    decision = Decision(as_it_is, held=True, reasons=(why,), crossed=crossed)
    return decision, replace(memory, levels=levels)


def _as_it_is(snapshot: Snapshot, memory: Memory) -> Desired:
    serving = sum(node.state in IN_SERVICE for node in snapshot.nodes)
    return Desired(
        containers=snapshot.wanted,
        nodes=serving + len(on_their_way(snapshot, memory)),
        leaving=_leaving(snapshot, ""),
        room=snapshot.wanted,
    )


def _leaving(snapshot: Snapshot, name: str) -> tuple[str, ...]:
    """Name the nodes that leave: those that are being emptied, and the one that is next."""
    emptying = [node.name for node in snapshot.nodes if node.state is NodeState.EMPTYING]
    return tuple(sorted({*emptying, *([name] if name else [])}))


def _peers_on(snapshot: Snapshot, name: str) -> tuple[str, ...]:
    if not name:
        return ()
    return tuple(
        sorted(
            container.peer.uid
            for container in on_node(snapshot, name)
            if container.peer is not None and container.state is ContainerState.RUNNING
        )
    )
