"""What a seed stands for: how many peers, what weather, which misfortunes, and when.

A plan is drawn before the run and is a plain list, so a failing seed can be read before it is
replayed. Each misfortune is one function: it plans its steps in the world, and its own end, for
everything is over at `HEAL_S`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from gossip.keys import first, install, key_id, remove, use
from gossip.messages import Keys
from tests.simulation.host import Host
from tests.simulation.network import Bursts, Fault, FlipFlop, Lossy, OneWay, Partition, Weather
from tests.simulation.world import EXCUSE_S, World

START_S = 2.0
"""Everybody has started by then."""

HEAL_S = 55.0
"""Nothing bad happens after that."""


@dataclass(frozen=True, kw_only=True)
class Misfortune:
    """One thing that goes wrong.

    Args:
        kind: Its name in `MISFORTUNES`.
        begin, end: When, in seconds.
        seed: What it draws its own details from.
    """

    kind: str
    begin: float
    end: float
    seed: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One run, as drawn from its seed."""

    seed: int
    size: int
    weather: Weather
    sealed: bool
    misfortunes: tuple[Misfortune, ...]

    def words(self) -> str:
        """Return it for a reader."""
        lines = [f"{self.size} peers, {'sealed' if self.sealed else 'plain'}, {self.weather}"]
        lines += [f"  {m.begin:5.1f} to {m.end:5.1f}  {m.kind}" for m in self.misfortunes]
        return "\n".join(lines)


def draw(seed: int) -> Plan:
    """Draw a plan."""
    rng = random.Random(f"plan {seed}")
    size = rng.choice((3, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 20, 24))
    weather = Weather(
        loss=rng.choice((0.0, 0.0, 0.02, 0.1, 0.3)),
        bursts=Bursts() if rng.random() < 0.15 else None,
        copies=rng.choice((0.0, 0.01, 0.1)),
        delay_s=rng.choice(((0.0002, 0.002), (0.0002, 0.05))),
        stray=rng.choice((0.0, 0.05)),
    )
    if weather.bursts is not None:
        weather = Weather(bursts=weather.bursts, copies=weather.copies)
    kinds = list(MISFORTUNES)
    misfortunes = []
    for _ in range(rng.randint(1, 5)):
        begin = rng.uniform(START_S, HEAL_S - 5.0)
        end = rng.uniform(begin + 1.0, HEAL_S)
        misfortunes.append(
            Misfortune(kind=rng.choice(kinds), begin=begin, end=end, seed=rng.getrandbits(32))
        )
    misfortunes.sort(key=lambda misfortune: misfortune.begin)
    sealed = rng.random() < 0.2 or any(m.kind == "rotation" for m in misfortunes)
    return Plan(
        seed=seed, size=size, weather=weather, sealed=sealed, misfortunes=tuple(misfortunes)
    )


def first_ring() -> Keys:
    """Return the key ring that everybody starts with."""
    return first(bytes(range(32)))


def stage(world: World, plan: Plan) -> None:
    """Put the peers up, and plan everything that will go wrong."""
    rng = random.Random(f"stage {plan.seed}")
    hosts = [world.add(eligible=rng.random() < 0.7) for _ in range(plan.size)]
    seeds = hosts[: rng.choice((1, 2, 3))]
    for host in hosts:
        world.at(rng.uniform(0.0, START_S), world.start, host, seeds)
    world.copying = any(misfortune.kind == "recordings" for misfortune in plan.misfortunes)
    for misfortune in plan.misfortunes:
        world.at(misfortune.begin, _begin, world, misfortune)


def _begin(world: World, misfortune: Misfortune) -> None:
    world.trace.note(world.now, "misfortune", misfortune)
    MISFORTUNES[misfortune.kind](world, random.Random(misfortune.seed), misfortune.end)


def heal(world: World) -> None:
    """End everything that is still wrong; what has crashed stays so, or is back by now."""
    world.trace.note(world.now, "world", "heals")
    world.network.faults.clear()
    world.network.weather = Weather(loss=min(world.network.weather.loss, 0.02))


# The misfortunes ---------------------------------------------------------------------------------


def _some(world: World, rng: random.Random, most: int = 3) -> list[Host]:
    """Draw a few of those that run, never all."""
    running = world.running()
    if len(running) < 2:
        return []
    return rng.sample(running, rng.randint(1, min(most, len(running) - 1)))


def _fault(world: World, fault: Fault, end: float, hurt: list[Host]) -> None:
    world.network.faults.append(fault)
    for host in hurt:
        host.excuse(end + EXCUSE_S)
    world.at(end, _end_fault, world, fault)


def _end_fault(world: World, fault: Fault) -> None:
    if fault in world.network.faults:
        world.network.faults.remove(fault)
        world.trace.note(world.now, "network", f"ends {type(fault).__name__}")


def _partition(world: World, rng: random.Random, end: float) -> None:
    sides = rng.choice((2, 2, 3))
    _fault(
        world,
        Partition({host.number: rng.randrange(sides) for host in world.hosts}),
        end,
        world.hosts,
    )


def _one_way(world: World, rng: random.Random, end: float) -> None:
    victims = tuple(host.number for host in _some(world, rng, 2))
    everybody = tuple(host.number for host in world.hosts)
    others = tuple(rng.sample(everybody, rng.randint(1, len(everybody))))
    share = rng.choice((0.8, 1.0))
    one_way = rng.choice((OneWay(victims, others, share), OneWay(others, victims, share)))
    _fault(world, one_way, end, [world.hosts[n] for n in (*victims, *others)])


def _flip_flop(world: World, rng: random.Random, end: float) -> None:
    for host in _some(world, rng, 2):
        fault = FlipFlop(host.number, rng.choice((3.0, 10.0, 20.0)), rng.random() < 0.5)
        _fault(world, fault, end, [host])


def _bad_cable(world: World, rng: random.Random, end: float) -> None:
    for host in _some(world, rng, 2):
        _fault(world, Lossy(host.number, rng.choice((0.5, 0.8))), end, [host])


def _short_freezes(world: World, rng: random.Random, end: float) -> None:
    hosts = _some(world, rng)
    until = world.now
    while until < end:
        for host in hosts:
            world.at(until, world.freeze, host, rng.uniform(0.5, 4.5))
        until += rng.uniform(5.5, 9.0)


def _long_freezes(world: World, rng: random.Random, end: float) -> None:
    for host in _some(world, rng):
        world.freeze(host, rng.uniform(3.0, max(4.0, end - world.now)))


def _starvation(world: World, rng: random.Random, end: float) -> None:
    for host in _some(world, rng):
        host.excuse(end + EXCUSE_S if world.network.weather.loss > 0.15 else -1.0)
        world.starve(host, end)


def _clock_jumps(world: World, rng: random.Random, end: float) -> None:
    for host in _some(world, rng):
        for _ in range(rng.randint(1, 3)):
            by_s = rng.choice((0.3, 2.0, 7.0, 60.0))
            world.at(rng.uniform(world.now, end), world.jump, host, by_s)


def _bad_clocks(world: World, rng: random.Random, end: float) -> None:
    for host in _some(world, rng, 5):
        world.drift(host, rng.uniform(0.9, 1.1))
        world.at(end, world.drift, host, 1.0)


def _crashes(world: World, rng: random.Random, end: float) -> None:
    for host in _some(world, rng):
        world.crash(host)
        world.at(rng.uniform(world.now + 0.1, end), _return, world, host)


def _losses_for_good(world: World, rng: random.Random, end: float) -> None:
    for host in _some(world, rng):
        world.at(rng.uniform(world.now, end), _crash_for_good, world, host)


def _crash_for_good(world: World, host: Host) -> None:
    if len(world.running()) > 2 and not host.leaving:
        world.crash(host, for_good=True)


def _restart_storm(world: World, rng: random.Random, end: float) -> None:
    for _ in range(rng.randint(1, 3)):
        when = rng.uniform(world.now, end - 0.5)
        for host in _some(world, rng, len(world.hosts)):
            world.at(when, world.crash, host)
            world.at(rng.uniform(when, end), _return, world, host)


def _return(world: World, host: Host) -> None:
    if not host.gone:
        others = [other for other in world.running() if other is not host]
        world.restart(host, (*host.seeds, *(others[:1])))


def _clones(world: World, rng: random.Random, end: float) -> None:
    for host in _some(world, rng, 1):
        copy = world.clone(host)
        world.start(copy, [other for other in world.running() if other is not copy][:2])


def _leaves(world: World, rng: random.Random, end: float) -> None:
    for host in _some(world, rng, 2):
        world.at(rng.uniform(world.now, end), _leave_if_others, world, host)


def _leave_if_others(world: World, host: Host) -> None:
    if len(world.running()) > 2:
        world.leave(host)


def _moves(world: World, rng: random.Random, end: float) -> None:
    for host in _some(world, rng, 2):
        if rng.random() < 0.5:
            world.move(host)
        else:
            world.crash(host)
            world.move(host)
            world.at(rng.uniform(world.now, end), _return, world, host)


def _newcomers(world: World, rng: random.Random, end: float) -> None:
    for _ in range(rng.randint(1, 5)):
        world.at(rng.uniform(world.now, end), _come, world, rng.getrandbits(32))


def _come(world: World, choice: int) -> None:
    if not world.running():
        return  # nobody to ask, nor to take the keys from
    seeds = random.Random(choice).sample(world.running(), min(3, len(world.running())))
    newcomer = world.add()
    newcomer.keys = seeds[0].keys  # whoever puts it up gives it the keys of today
    world.start(newcomer, seeds)
    newcomer.excuse(HEAL_S + EXCUSE_S)  # it may have come into the middle of something


def _recordings(world: World, rng: random.Random, end: float) -> None:
    for _ in range(10):
        world.at(rng.uniform(world.now, end), world.replay, 100)


def _rotation(world: World, rng: random.Random, end: float) -> None:
    third = (end - world.now) / 3
    material = rng.randbytes(32)
    for step in range(3):
        when = world.now + step * third
        world.at(when, _rotate, world, rng.getrandbits(32), step, material)


def _rotate(world: World, choice: int, step: int, material: bytes) -> None:
    running = world.running()
    host = running[choice % len(running)]
    if host.keys is None or (step == 0 and key_id(material) in dict(host.keys.keys)):
        return  # one key in 255 has another one's number; a person takes another
    origin = host.uid
    if step == 0:
        world.set_keys(host, install(host.keys, material=material, origin=origin))
    elif step == 1 and len(host.keys.keys) > 1:
        world.set_keys(host, use(host.keys, host.keys.keys[-1][0], origin=origin))
    elif step == 2 and _all_use(world, host.keys.primary):
        old = [key for key, _ in host.keys.keys if key != host.keys.primary]
        if old:
            world.set_keys(host, remove(host.keys, old[0], origin=origin))


def _all_use(world: World, primary: int) -> bool:
    """What `peerctl keys remove` looks at first: nobody must still need the old key."""
    return all(host.gone or (host.keys and host.keys.primary == primary) for host in world.hosts)


MISFORTUNES: dict[str, Callable[[World, random.Random, float], None]] = {
    "partition": _partition,
    "one way": _one_way,
    "flip-flop": _flip_flop,
    "bad cable": _bad_cable,
    "short freezes": _short_freezes,
    "long freezes": _long_freezes,
    "starvation": _starvation,
    "clock jumps": _clock_jumps,
    "bad clocks": _bad_clocks,
    "crashes": _crashes,
    "losses for good": _losses_for_good,
    "restart storm": _restart_storm,
    "clones": _clones,
    "leaves": _leaves,
    "moves": _moves,
    "newcomers": _newcomers,
    "recordings": _recordings,
    "rotation": _rotation,
}
