"""One RabbitMQ, PostgreSQL and S3 server a session, and for each test a site of its own on them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.chaos.services.rig import Rig, rig_at
from tests.chaos.services.services import Services, Site, in_a_directory_of_their_own
from tests.chaos.services.services import site as site_on
from tests.missing import do_without
from tests.servers.rabbitmq import why_missing


@pytest.fixture(scope="session")
def services() -> Iterator[Services]:
    """The servers; tests may do to them what they like."""
    if (why := why_missing()) is not None:
        do_without(why)
    with in_a_directory_of_their_own() as services:
        yield services


@pytest.fixture
def site(services: Services) -> Iterator[Site]:
    """A database, a virtual host and a bucket of this test's own; the servers are well."""
    with site_on(services) as site:
        yield site


@pytest.fixture
async def rig(site: Site, tmp_path: Path) -> AsyncIterator[Rig]:
    """Who hands tasks in there, and calls the checker at the end."""
    async with rig_at(site, tmp_path) as rig:
        yield rig


@pytest.fixture
async def embedded_rig(site: Site, tmp_path: Path) -> AsyncIterator[Rig]:
    """The same where the queue is embedded in the ledger's database."""
    async with rig_at(site, tmp_path, embedded=True) as rig:
        yield rig
