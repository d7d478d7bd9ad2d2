"""Queues on a real broker, each test with its own, for a user with the rights that a peer needs."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator

import pytest

from pipeline.queues.rabbitmq.config import RabbitConfig
from pipeline.queues.rabbitmq.queue import RabbitQueue
from pipeline.queues.rabbitmq.topology import Topology
from tests.contract.rabbitmq.rig import Connect


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Make queues that are closed when the test is over."""
    queues: list[RabbitQueue] = []

    def make(config: RabbitConfig) -> RabbitQueue:
        queues.append(RabbitQueue(config, rng=random.Random(1)))
        return queues[-1]

    yield make
    for queue in queues:
        await queue.aclose()


@pytest.fixture
def queue(connect: Connect, rabbit_config: RabbitConfig) -> RabbitQueue:
    """One, where one is enough."""
    return connect(rabbit_config)


@pytest.fixture
def topology(rabbit_config: RabbitConfig) -> Topology:
    """The names of its queues."""
    return Topology(rabbit_config.prefix)
