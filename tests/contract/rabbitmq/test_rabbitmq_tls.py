"""TLS to RabbitMQ: who trusts whom."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.errors import QueueUnavailable
from pipeline.queues.rabbitmq.config import RabbitConfig
from tests.contract.rabbitmq.rig import Connect, within
from tests.servers.certificates import Authority
from tests.servers.rabbitmq import RabbitServer, ServerCertificate


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ServerCertificate]:
    """Of two authorities, each with a certificate for `localhost`."""
    directory = tmp_path_factory.mktemp("certificates")
    return {name: _certify(directory / name) for name in ("ours", "theirs")}


def _certify(directory: Path) -> ServerCertificate:
    authority = Authority(directory)
    issued = authority.issue("localhost", ["localhost"])
    return ServerCertificate(
        authority=authority.certificate, certificate=issued.certificate, key=issued.key
    )


@pytest.fixture(scope="session")
def tls_rabbit(
    rabbit: RabbitServer,
    certificates: dict[str, ServerCertificate],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[RabbitServer]:
    """A broker that asks its clients for certificates, too."""
    server = RabbitServer(
        tmp_path_factory.mktemp("tls"), tls=certificates["ours"], ask_for_certificate=True
    )
    server.start()
    yield server
    server.kill()
    server.stop()


async def test_tls(
    tls_rabbit: RabbitServer, connect: Connect, certificates: dict[str, ServerCertificate]
) -> None:
    """With an authority that both know and a certificate of its own, a peer works as ever."""
    ours = certificates["ours"]
    queue = connect(
        RabbitConfig(
            url=tls_rabbit.tls_url,
            ca_file=ours.authority,
            cert_file=ours.certificate,
            key_file=ours.key,
        )
    )
    await queue.publish(b"x" * 300_000)
    delivery = await within(5, queue.receive)
    assert len(delivery.body) == 300_000
    await delivery.ack()


async def test_no_tls_where_it_is_expected(tls_rabbit: RabbitServer, connect: Connect) -> None:
    """Whoever forgets an s is told what may be wrong."""
    queue = connect(RabbitConfig(url=f"amqp://127.0.0.1:{tls_rabbit.tls_port}"))
    with pytest.raises(QueueUnavailable, match="does it expect TLS"):
        await queue.publish(b"x")


async def test_tls_to_an_address(
    tls_rabbit: RabbitServer, connect: Connect, certificates: dict[str, ServerCertificate]
) -> None:
    """A broker that is reached by its address is known by the name that was set."""
    ours = certificates["ours"]
    url = tls_rabbit.tls_url.replace("localhost", "127.0.0.1")
    config = RabbitConfig(
        url=url, ca_file=ours.authority, cert_file=ours.certificate, key_file=ours.key
    )
    with pytest.raises(QueueUnavailable, match="not trusted: IP address mismatch"):
        await connect(config).publish(b"x")
    await connect(replace(config, server_name="localhost")).prepare()


@pytest.mark.parametrize(
    ("authority", "shown", "complaint"),
    [
        ("theirs", "ours", "certificate is not trusted"),
        (None, "ours", "certificate is not trusted"),
        ("ours", None, "TLS failed|closed the connection|Connection reset"),
        ("ours", "theirs", "TLS failed|closed the connection|Connection reset"),
    ],
)
async def test_certificates_that_are_not_trusted(
    tls_rabbit: RabbitServer,
    connect: Connect,
    certificates: dict[str, ServerCertificate],
    authority: str | None,
    shown: str | None,
    complaint: str,
) -> None:
    """Neither side talks to a stranger; ours says what is wrong."""
    own = certificates[shown] if shown else None
    queue = connect(
        RabbitConfig(
            url=tls_rabbit.tls_url,
            ca_file=certificates[authority].authority if authority else None,
            cert_file=own.certificate if own else None,
            key_file=own.key if own else None,
        )
    )
    with pytest.raises(QueueUnavailable, match=complaint):
        await queue.publish(b"x")
