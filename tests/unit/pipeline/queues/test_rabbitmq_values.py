"""The values of the RabbitMQ queue: delays, its topology, its configuration, its complaints."""

from __future__ import annotations

import errno
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika.exceptions import (
    AMQPHeartbeatTimeout,
    ChannelClosedByBroker,
    ConnectionClosedByBroker,
    IncompatibleProtocolError,
    ProbableAuthenticationError,
    StreamLostError,
)

from pipeline.queues.rabbitmq.complaints import explain
from pipeline.queues.rabbitmq.config import Endpoint, RabbitConfig, parse_url
from pipeline.queues.rabbitmq.declaring import difference
from pipeline.queues.rabbitmq.delays import DELAYS_MS, TICK_MS, find_way, name
from pipeline.queues.rabbitmq.topology import LEFT_MS, Address, Binding, Exchange, Queue, Topology
from pipeline.tasks import Priority

DELAYS_S = st.floats(min_value=0.001, max_value=100_000)


def passed(way_key: str) -> list[int]:
    """The lengths that a key has a message wait."""
    steps = way_key.split(".")[:-1]
    assert len(steps) == len(DELAYS_MS)
    return [length for length, step in zip(DELAYS_MS, steps, strict=True) if step == "1"]


@given(DELAYS_S)
def test_a_delay_is_the_sum_of_fixed_ones(delay_s: float) -> None:
    """Never shorter than asked for, and longer by less than a tick."""
    way = find_way(delay_s, Priority.NORMAL)
    assert way is not None
    waits = passed(way.key)
    assert way.first_ms == waits[0]
    total_s = (sum(waits) + way.left_ms) / 1000
    assert delay_s <= total_s + 1e-9
    assert total_s < delay_s + TICK_MS / 1000 + 1e-9


@given(DELAYS_S)
def test_only_what_is_too_long_is_sent_on(delay_s: float) -> None:
    """As long as one way is long enough, the broker alone keeps the delay."""
    way = find_way(delay_s, Priority.NORMAL)
    assert way is not None
    assert (way.left_ms > 0) == (delay_s * 1000 > sum(DELAYS_MS))


@pytest.mark.parametrize("length_ms", DELAYS_MS)
def test_each_fixed_delay_is_one_step(length_ms: int) -> None:
    """The delays that are asked for most pass one queue."""
    way = find_way(length_ms / 1000, Priority.LOW)
    assert way is not None
    assert passed(way.key) == [length_ms]
    assert way.key.endswith(".low")


@pytest.mark.parametrize("delay_s", [0.0, -1.0])
def test_no_delay(delay_s: float) -> None:
    """What is due goes to its line at once."""
    assert find_way(delay_s, Priority.HIGH) is None
    address = Address("p.line", "high", due_in_s=0.0)
    assert Topology("p").address(Priority.HIGH, delay_s) == address


def test_names_of_lengths() -> None:
    """As people write them; those that people know of are there."""
    names = [name(length) for length in DELAYS_MS]
    assert {"250ms", "1s", "2s", "5s", "30s", "2min", "10min"} < set(names)
    assert len(set(names)) == len(names)


def matches(pattern: str, key: str) -> bool:
    """As a topic exchange does it."""

    def walk(words: list[str], given: list[str]) -> bool:
        if not words:
            return not given
        if words[0] == "#":
            return any(walk(words[1:], given[at:]) for at in range(len(given) + 1))
        return bool(given) and words[0] in ("*", given[0]) and walk(words[1:], given[1:])

    return walk(pattern.split("."), key.split("."))


def route(topology: Topology, exchange: str, key: str) -> Iterator[str]:
    """The queues that a message gets to."""
    kinds = {each.name: each.kind for each in topology.parts() if isinstance(each, Exchange)}
    bindings = [each for each in topology.parts() if isinstance(each, Binding)]
    for binding in bindings:
        is_fanout = kinds[exchange] == "fanout"
        if binding.source == exchange and (is_fanout or matches(binding.key, key)):
            if binding.to_exchange:
                yield from route(topology, binding.target, key)
            else:
                yield binding.target


@given(st.integers(min_value=0, max_value=sum(DELAYS_MS) // TICK_MS), st.sampled_from(Priority))
def test_every_delay_leads_to_its_line(ticks: int, priority: Priority) -> None:
    """By way of the queues whose times make it up, and no other, a message gets to one queue."""
    topology = Topology("p")
    arguments = {queue.name: queue.arguments for queue in topology.queues}
    address = topology.address(priority, ticks * TICK_MS / 1000)
    exchange, waited = address.exchange, 0
    while True:
        (queue,) = route(topology, exchange, address.key)
        if queue == topology.queue_of(priority):
            break
        waited += int(arguments[queue]["x-message-ttl"])
        exchange = str(arguments[queue]["x-dead-letter-exchange"])
    assert waited == ticks * TICK_MS
    assert address.due_in_s == waited / 1000
    assert address.headers == {}


def test_what_is_dead_is_kept_twice() -> None:
    """For good, and as the newest."""
    topology = Topology("p")
    assert sorted(route(topology, topology.dead, "")) == ["p.dead", "p.dead.newest"]


@pytest.mark.parametrize("key", [*Priority, "", "urgent", "x.high", "HIGH"])
def test_what_clients_publish(key: str) -> None:
    """Gets to the line of its priority; what has none, to the dead letters. What peers publish has
    no such way out, as it would not come back to them."""
    topology = Topology("p")
    exchanges = {each.name: each for each in topology.parts() if isinstance(each, Exchange)}
    routed = list(route(topology, topology.work, key))
    assert routed == ([topology.queue_of(Priority(key))] if key in list(Priority) else [])
    led_on = {name for name, each in exchanges.items() if each.arguments}
    assert led_on == {topology.work}
    assert exchanges[topology.work].arguments == {"alternate-exchange": topology.dead}


def test_the_marker_is_of_this_topology(monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes last, and has another name where an argument is different."""
    *needed, last = Topology("p").parts()
    marker = Topology("p").marker
    assert last == marker
    assert marker not in needed
    monkeypatch.setattr("pipeline.queues.rabbitmq.topology.DELIVERIES_MAX", 7)
    assert Topology("p").marker.name != marker.name


def test_the_bell_is_heard_alone() -> None:
    """By those who wait; and no message of the work's is ever in it."""
    topology = Topology("p")
    assert list(route(topology, topology.bell, "")) == ["p.bell"]


def test_names_begin_with_the_prefix() -> None:
    """And a dot: the rights that a user of the broker needs are told by that."""
    names = [
        name
        for part in Topology("p").parts()
        for name in ([part.source, part.target] if isinstance(part, Binding) else [part.name])
    ]
    assert names
    assert all(name.startswith("p.") for name in names)


def test_the_line_is_declared_first() -> None:
    """What clients publish to works before the many delays are there; and nothing is named before
    it is declared, but for the exchanges that dead letters go to."""
    parts = list(Topology("p").parts())
    first = [part.target if isinstance(part, Binding) else part.name for part in parts[:11]]
    line = ["p.line", *("p.high",) * 2, *("p.normal",) * 2, *("p.low",) * 2]
    assert first == [*line, "p.work", *("p.line",) * 3]
    known: set[str] = set()
    for part in parts:
        if isinstance(part, Binding):
            assert {part.source, part.target} <= known
        else:
            known.add(part.name)
    dead = {
        str(part.arguments.get("x-dead-letter-exchange", "p.dead"))
        for part in parts
        if isinstance(part, Queue)
    }
    assert dead <= known


def test_a_delay_that_is_too_long_says_what_is_left() -> None:
    """So that whoever receives the message sends it on."""
    headers = Topology("p").address(Priority.NORMAL, sum(DELAYS_MS) / 1000 + 60).headers
    assert headers == {LEFT_MS: 60_000}


@pytest.mark.parametrize(
    ("text", "endpoints", "virtual_host", "user", "password"),
    [
        ("amqp://rabbit", ["rabbit:5672"], "/", None, None),
        ("amqps://rabbit/", ["rabbit:5671"], "/", None, None),
        ("amqp://u:p@a,b:5000,[::1]:7/video", ["a:5672", "b:5000", "[::1]:7"], "video", "u", "p"),
        ("amqp://u%40x:p%2Fq%3A@10.0.0.1/a%2Fb", ["10.0.0.1:5672"], "a/b", "u@x", "p/q:"),
        ("amqp://user@rabbit", ["rabbit:5672"], "/", "user", None),
        ("amqp://user:p@ss@rabbit", ["rabbit:5672"], "/", "user", "p@ss"),
    ],
)
def test_urls(
    text: str, endpoints: list[str], virtual_host: str, user: str | None, password: str | None
) -> None:
    """User, password, several hosts and the virtual host, each optional."""
    url = parse_url(text)
    assert [str(each) for each in url.endpoints] == endpoints
    assert (url.virtual_host, url.user, url.password) == (virtual_host, user, password)
    assert url.secure == text.startswith("amqps")


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"url": "http://rabbit"}, r"queue\.url: expected amqp://"),
        ({"url": "amqp://"}, "number 1 of its hosts is not a host"),
        ({"url": "amqp://a,,b"}, "number 2 of its hosts is not a host"),
        ({"url": "amqp://rabbit:0"}, "number 1 of its hosts is not a host"),
        ({"url": "amqp://a,b,rabbit:x"}, "number 3 of its hosts is not a host"),
        ({"url": "amqp://rabbit/a/b"}, "%2F"),
        ({"url": "amqp://rabbit?heartbeat=5"}, "settings"),
        ({"url": "amqp://u@rabbit"}, "has no password"),
        ({"url": "amqp://u:p@rabbit", "password": "q"}, r"queue\.password is also in queue\.url"),
        ({"url": "amqp://rabbit", "ca_file": Path("ca")}, "amqps://"),
        ({"url": "amqps://rabbit", "key_file": Path("k")}, r"without queue\.cert_file"),
        ({"user": "u"}, r"without queue\.url"),
        ({"prefix": "a b"}, r"queue\.prefix"),
        ({"prefix": ""}, r"queue\.prefix"),
        ({"heartbeat_s": 0}, r"queue\.heartbeat_s"),
        ({"management_url": "rabbit:15672"}, r"queue\.management_url"),
        ({"management_url": "http://u:p@rabbit"}, "leave user and password out"),
    ],
)
def test_wrong_configurations(given: dict[str, object], complaint: str) -> None:
    """Each is told in a sentence that names the setting; no password is in it."""
    with pytest.raises(ValueError, match=complaint) as caught:
        RabbitConfig(**given)  # type: ignore[arg-type] # some are wrong on purpose
    assert "p@" not in str(caught.value)


@pytest.mark.parametrize(
    "password",
    ["se/cret", "12/34", "se?cret", "se#cret", "se[cret]", "[secret]", "sec ret/", "\u2100"],
)
@pytest.mark.parametrize("setting", ["url", "management_url"])
def test_a_password_that_is_not_encoded(setting: str, password: str) -> None:
    """Is the commonest mistake; what is wrong is said, and no piece of it is shown."""
    scheme = {"url": "amqp", "management_url": "http"}[setting]
    with pytest.raises(ValueError, match=rf"queue\.{setting}: .*(%2F|leave user)") as caught:
        RabbitConfig(**{setting: f"{scheme}://grape:{password}@rabbit"})  # type: ignore[arg-type] # str, both
    assert caught.value.__context__ is None or caught.value.__suppress_context__
    assert not any(piece in str(caught.value) for piece in ("cret", "12", "34", "grape", "rabbit"))


def test_a_url_without_a_host() -> None:
    """What stands in its place may be a password, too."""
    with pytest.raises(ValueError, match="not a host") as caught:
        RabbitConfig(url="amqp://grape:secret")
    assert "secret" not in str(caught.value)


def test_credentials() -> None:
    """In the URL or beside it; RabbitMQ's own where there are none. None is ever shown."""
    beside = RabbitConfig(url="amqp://rabbit", user="u", password="secret")
    inside = RabbitConfig(url="amqp://u:secret@rabbit")
    assert beside.credentials == inside.credentials == ("u", "secret")
    assert RabbitConfig(url="amqp://rabbit").credentials == ("guest", "guest")
    assert "secret" not in f"{beside} {inside} {inside.broker}"


def test_endpoints_are_shown_as_they_are_written() -> None:
    """An IPv6 address stands in brackets."""
    assert str(Endpoint("::1", 5672)) == "[::1]:5672"


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (
            "PRECONDITION_FAILED - inequivalent arg 'x-delivery-limit' for queue 'p.low' in vhost"
            " '/': received the value '20' of type 'signedint' but current is the value '5' of"
            " type 'signedint'",
            "its x-delivery-limit is 5 and must be 20",
        ),
        (
            "PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue 'q' in vhost '/':"
            " received the value '5' of type 'signedint' but current is none",
            "its x-message-ttl is not set and must be 5",
        ),
        (
            "PRECONDITION_FAILED - inequivalent arg 'type' for exchange 'p.work' in vhost '/':"
            " received 'topic' but current is 'direct'",
            "its type is direct and must be topic",
        ),
        ("PRECONDITION_FAILED - something else", "PRECONDITION_FAILED - something else"),
    ],
)
def test_differences(said: str, shown: str) -> None:
    """What differs is said the way round that a person can act on."""
    assert difference(said) == shown


def wrapped(error: Exception) -> Exception:
    outer = OSError("all attempts to connect to 127.0.0.1:1 failed")
    outer.__cause__ = ExceptionGroup("many", [error])
    return outer


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (wrapped(OSError(errno.ECONNREFUSED, "Connection refused")), "Connection refused"),
        (ConnectionClosedByBroker(403, "ACCESS_REFUSED"), "it refused the user or the password"),
        (ProbableAuthenticationError("…"), "it refused the user or the password"),
        (ConnectionClosedByBroker(320, "CONNECTION_FORCED"), "it said CONNECTION_FORCED"),
        (
            ConnectionClosedByBroker(541, "INTERNAL_ERROR"),
            "it said INTERNAL_ERROR: its log has more, and where queues were deleted while it was"
            " starting it must be started again",
        ),
        (ChannelClosedByBroker(404, "NOT_FOUND - no queue"), "it said NOT_FOUND - no queue"),
        (IncompatibleProtocolError("…"), "it ended the connection unheard"),
        (StreamLostError("it closed the connection"), "it closed the connection"),
        (AMQPHeartbeatTimeout("it was silent for 10 s"), "it was silent for 10 s"),
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number"), "TLS failed"),
        (RuntimeError("what now"), "what now"),
        (RuntimeError(), "RuntimeError"),
    ],
)
def test_complaints(error: Exception, sentence: str) -> None:
    """The cause, not the class that wraps it."""
    assert explain(error).startswith(sentence)
