"""Credentials, styles of address, and authorities of one's own."""

from __future__ import annotations

import configparser
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from pipeline.errors import StoreUnavailable
from pipeline.stores.s3.config import PART_BYTES_MIN, S3Config
from pipeline.stores.s3.store import S3Store
from tests.contract.s3.film import (
    FILM,
    make_folder,
    moves_bytes,
    names_in,
    pulled,
)
from tests.servers.certificates import Authority
from tests.servers.faulty_http import Fault, FaultyProxy
from tests.servers.s3 import S3Server


async def test_credentials_from_a_file(
    s3: S3Server,
    s3_config: S3Config,
    film: Path,
    tmp_path: Path,
    open_store: Callable[[S3Config], S3Store],
) -> None:
    """Those in the file count, from the moment they are in it."""
    file = tmp_path / "credentials"

    def write(secret_key: str) -> None:
        parser = configparser.ConfigParser()
        parser["lab"] = {
            "aws_access_key_id": s3.access_key,
            "aws_secret_access_key": secret_key,
        }
        with file.open("w") as stream:
            parser.write(stream)

    config = replace(
        s3_config, access_key=None, secret_key=None, credentials_file=file, profile="lab"
    )
    store = open_store(config)
    with pytest.raises(StoreUnavailable, match="credentials cannot be read"):
        await store.prepare()
    write("wrong-secret")
    with pytest.raises(StoreUnavailable, match=r"check store\.s3\.secret_key"):
        await store.prepare()
    write(s3.secret_key)
    await store.prepare()


async def test_credentials_from_the_environment(s3: S3Server, s3_config: S3Config) -> None:
    """As AWS's own programs take them; with none anywhere it is said where they may be."""
    config = replace(s3_config, access_key=None, secret_key=None)
    with pytest.raises(ValueError, match="has no credentials; set access_key"):
        S3Store(config, environment={})
    environment = {"AWS_ACCESS_KEY_ID": s3.access_key, "AWS_SECRET_ACCESS_KEY": s3.secret_key}
    store = S3Store(config, environment=environment)
    await store.prepare()
    store.close()


async def test_a_session_token_goes_along(
    config: S3Config, proxy: FaultyProxy, open_store: Callable[[S3Config], S3Store]
) -> None:
    """Short-lived credentials are three things, and the third is sent and signed too."""
    proxy.fault = Fault(status=403, code="ExpiredToken")
    store = open_store(replace(config, session_token="a-token"))
    with pytest.raises(StoreUnavailable, match="have expired"):
        await store.pull("film", Path("nowhere"))

    sent = proxy.exchanges[0].headers
    assert sent["X-Amz-Security-Token"] == "a-token"
    assert "x-amz-security-token" in sent["Authorization"]


async def test_virtual_host_style(
    s3: S3Server,
    s3_config: S3Config,
    proxy: FaultyProxy,
    film: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    open_store: Callable[[S3Config], S3Store],
) -> None:
    """The bucket is in the host's name and not in the path, for our requests and for minio's."""
    resolve = socket.getaddrinfo

    def resolve_here(host: str, *rest: Any, **more: Any) -> Any:
        return resolve("127.0.0.1" if host.endswith(s3.domain) else host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", resolve_here)
    endpoint = f"http://{s3.domain}:{proxy.port}"
    config = replace(s3_config, endpoint=endpoint, style="virtual", part_bytes=PART_BYTES_MIN)
    store = open_store(config)
    await store.prepare()
    before = len(proxy.exchanges)
    await store.push(film, "a/film")

    assert await pulled(store, "a/film", tmp_path / "target") == FILM
    assert [stored.key for stored in await store.list("a")] == ["a/film"]
    assert await store.remove("a") == 1
    hosts = {exchange.headers["Host"] for exchange in proxy.exchanges[before:]}
    assert hosts == {f"{config.bucket}.{s3.domain}:{proxy.port}"}
    assert not any(config.bucket in exchange.target for exchange in proxy.exchanges[before:])


@pytest.fixture
def encrypted(s3: S3Server, tmp_path: Path) -> Iterator[tuple[FaultyProxy, Path]]:
    """The server behind TLS, and the certificate of the authority that signed for it."""
    authority = Authority(tmp_path / "authority")
    issued = authority.issue("server", ["127.0.0.1"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued.certificate, issued.key)
    with FaultyProxy(s3.port, tls=context) as proxy:
        yield proxy, authority.certificate


async def test_an_authority_of_ones_own(
    s3_config: S3Config,
    encrypted: tuple[FaultyProxy, Path],
    film: Path,
    tmp_path: Path,
    open_store: Callable[[S3Config], S3Store],
) -> None:
    """A company's own certificate is believed when its authority is named, and not before."""
    proxy, ca_file = encrypted
    stranger = open_store(replace(s3_config, endpoint=proxy.endpoint))
    with pytest.raises(StoreUnavailable, match=r"not trusted .*store\.s3\.ca_file"):
        await stranger.prepare()
    config = replace(s3_config, endpoint=proxy.endpoint, ca_file=ca_file, part_bytes=PART_BYTES_MIN)
    store = open_store(config)
    await store.prepare()
    await store.push(film, "film")

    target = tmp_path / "place" / "target"
    make_folder(target.parent)
    assert await pulled(store, "film", target) == FILM
    # The other reader of the same connections, cancelled in the middle of an encrypted answer.
    proxy.fault = Fault(only=moves_bytes, drip_bytes_per_s=50_000)
    with trio.fail_after(2):
        with trio.move_on_after(0.3) as scope:
            await store.pull("film", target)
    assert scope.cancelled_caught
    assert names_in(target.parent) == []


def test_a_file_that_holds_no_authority(s3_config: S3Config, tmp_path: Path) -> None:
    """A wrong path is told when the store is made, with the setting's name."""
    (tmp_path / "empty.pem").touch()
    for file in (tmp_path / "nothing.pem", tmp_path / "empty.pem"):
        config = replace(s3_config, endpoint="https://127.0.0.1:1", ca_file=file)
        with pytest.raises(ValueError, match=r"store\.s3\.ca_file: .* must be a PEM file"):
            S3Store(config)
