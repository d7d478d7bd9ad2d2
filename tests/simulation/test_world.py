from __future__ import annotations

import itertools
from typing import Any

import pytest

from gossip.messages import Heartbeat
from tests.simulation.host import RECEIVE_BUFFER_BYTES
from tests.simulation.network import Weather
from tests.simulation.world import Violation

HEARTBEAT = Heartbeat(sequence=1, incarnation=0, tardiness=0, grace_s=0.0)


def test_a_frozen_peer_reads_everything_before_it_ticks_and_knows_when_it_came(
    theatre: Any,
) -> None:
    """What arrives during a freeze waits in the socket with its true time, and is handed over
    before the tick that is late."""
    stage = theatre(2)
    sender, sleeper = stage.puppets
    sleeper.due_at = sleeper.host.now + 1.5
    stage.world.freeze(sleeper.host, 4.0)
    sender.say(sleeper.host, HEARTBEAT)
    stage.act(3.0)
    assert (sleeper.heard, sleeper.ticks) == ([], [])
    stage.act(2.0)
    began = sleeper.host.clock.local(0.0)
    [(uid, received_at)] = sleeper.heard
    assert uid == sender.host.uid
    assert 1.0 <= received_at - began <= 1.1
    assert sleeper.ticks == pytest.approx([began + 4.0])


def test_a_frozen_peers_socket_is_bounded(theatre: Any) -> None:
    """What does not fit into the buffer of a process that does not read is lost."""
    stage = theatre(2)
    sender, sleeper = stage.puppets
    stage.world.network.weather = Weather(delay_s=(0.001, 0.001))  # in order, for the window
    stage.world.freeze(sleeper.host, 10.0)
    big = Heartbeat(sequence=1, incarnation=0, tardiness=0, grace_s=0.0, loads=bytes(1104))
    for _ in range(1200):
        sender.say(sleeper.host, big)
    stage.act(11.0)
    assert len(sleeper.heard) <= RECEIVE_BUFFER_BYTES // 1100
    assert len(sleeper.heard) > 800


def test_a_tick_comes_when_it_is_due_by_the_peers_own_clock(theatre: Any) -> None:
    """A fast clock's second is shorter than a true one, and a jump makes what is due due."""
    stage = theatre(1)
    [puppet] = stage.puppets
    stage.world.drift(puppet.host, 2.0)
    puppet.period_s = 1.0
    puppet.due_at = puppet.host.clock.local(0.0) + 1.0
    stage.act(4.9)
    assert len(puppet.ticks) in (8, 9)
    stage.world.jump(puppet.host, 10.0)
    before = len(puppet.ticks)
    stage.act(0.001)
    assert len(puppet.ticks) == before + 1
    gaps = [later - earlier for earlier, later in itertools.pairwise(puppet.ticks)]
    assert max(gaps) > 10.0


def test_a_core_that_never_sleeps_is_found(theatre: Any) -> None:
    """A core that is due again at once, for ever, ends the run instead of hanging it."""
    stage = theatre(1)
    [puppet] = stage.puppets
    puppet.period_s = 0.0
    puppet.due_at = 0.0
    with pytest.raises(Violation, match="for ever"):
        stage.act()


def test_a_restart_has_a_higher_epoch_and_an_empty_socket(theatre: Any) -> None:
    """A new life begins with a higher epoch and another salt, and hears nothing of before."""
    stage = theatre(2)
    sender, victim = stage.puppets
    host = victim.host
    epoch, salt = host.epoch, victim.envelope.salt
    stage.world.freeze(host, 5.0)
    sender.say(host, HEARTBEAT)
    stage.act(2.0)
    stage.world.crash(host)
    stage.world.restart(host)
    stage.act(5.0)
    reborn = stage.puppets[-1]
    assert reborn.host is host
    assert host.epoch > epoch
    assert reborn.envelope.salt != salt
    assert reborn.heard == []


def test_a_recording_is_opened_by_nobody_twice(theatre: Any) -> None:
    """Recordings are delivered again, byte for byte, and the replay window drops them."""
    stage = theatre(2)
    sender, receiver = stage.puppets
    stage.world.copying = True
    sender.say(receiver.host, HEARTBEAT)
    stage.act(2.0)
    stage.world.replay(5)
    stage.act(2.0)
    assert len(receiver.heard) == 1
