"""Real services, peers that use them, and all that stands around them: once for all scenarios.

RabbitMQ, PostgreSQL over TCP and an S3 server run on ports of their own; two `peer` processes are
told of them by a configuration file, as an operator does it. The peers reach the store through a
proxy that can spoil what a scenario wants spoilt, run an ffmpeg that can be put out of order, and
tell a webhook what administrators must know.
"""

from __future__ import annotations

import json
import shlex
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import minio
import psycopg

from pipeline.media.tools import Tools, find_tools
from tests.e2e.cluster_rig import START_WITHIN_S, Machine
from tests.servers.faulty_http import Exchange, Fault, FaultyProxy
from tests.servers.postgres import PostgresServer
from tests.servers.rabbitmq import RabbitServer
from tests.servers.s3 import S3Server
from tests.servers.webhook import WebHook

PEERS = ("one", "two")
SLOTS = 2
RETRY_BASE_S = 1.0
STORE_PATIENCE_S = 3.0
"""Longer than a breaker pauses at most: else one video's trouble could be another's, too."""
BYTE = 1000
"""Which one is damaged: every video has more, and no other answer of the store."""

CONFIGURATION = """\
[peer]
store_patience_s = {store_patience_s}

[ledger]
url = {ledger}

[queue]
url = {queue}
prefix = {prefix}
management_url = {management}

[store.s3]
endpoint = {endpoint}
bucket = {bucket}
access_key = {access_key}
secret_key = {secret_key}

[transcode]
ffmpeg = {ffmpeg}
ffprobe = {ffprobe}
# The file that puts ffmpeg out of order is none of a task's.
limits.fenced = false

[retry]
base_s = {base_s}

[notify]
urls = [{webhook}]
interval_s = 1
"""

OUT_OF_ORDER = """\
#!/bin/sh
# ffmpeg, as long as the text in the file beside it is not among its arguments.
if [ -s {marker} ]; then
    case "$*" in
        *"$(cat {marker})"*)
            echo "this ffmpeg is out of order" >&2
            exit 1
            ;;
    esac
fi
exec {ffmpeg} "$@"
"""


class BreakableFfmpeg:
    """The machine's ffmpeg, until it is told to fail whatever makes one certain size.

    Args:
        directory: For the program.
    """

    def __init__(self, directory: Path, tools: Tools) -> None:
        self.program = directory / "ffmpeg"
        self._marker = directory / "out-of-order"
        text = OUT_OF_ORDER.format(
            marker=shlex.quote(str(self._marker)), ffmpeg=shlex.quote(str(tools.ffmpeg))
        )
        self.program.write_text(text)
        self.program.chmod(0o755)

    def break_for(self, argument: str) -> None:
        """From now on it fails when this is part of its arguments."""
        # Renamed into place: a peer that looks now must not find it empty.
        new = self._marker.with_suffix(".new")
        new.write_text(argument)
        new.rename(self._marker)

    def repair(self) -> None:
        """It works again."""
        self._marker.unlink(missing_ok=True)


class Spoilers:
    """Which of the peers' requests to the store are spoilt: asked by the proxy for every one."""

    def __init__(self) -> None:
        self._wanted: dict[str, Callable[[Exchange], bool]] = {}

    def add(self, name: str, wanted: Callable[[Exchange], bool]) -> None:
        """Spoil these until `remove` is called with that name."""
        self._wanted[name] = wanted

    def remove(self, name: str) -> None:
        """Leave them alone again."""
        self._wanted.pop(name, None)

    def clear(self) -> None:
        """Leave all of them alone."""
        self._wanted.clear()

    def __call__(self, exchange: Exchange) -> bool:
        return any(wanted(exchange) for wanted in list(self._wanted.values()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Everything that runs.

    Args:
        proxy: Stands between the peers and `s3`.
        database: Its name in `postgres`.
        prefix: Of all names in RabbitMQ.
    """

    rabbit: RabbitServer
    postgres: PostgresServer
    s3: S3Server
    proxy: FaultyProxy
    spoilers: Spoilers
    webhook: WebHook
    ffmpeg: BreakableFfmpeg
    machine: Machine
    database: str
    prefix: str
    bucket: str

    @property
    def ledger_url(self) -> str:
        """The database."""
        return self.postgres.url_of(self.database)

    @property
    def queue_url(self) -> str:
        """The broker."""
        return self.rabbit.url

    def logs(self) -> str:
        """The ends of what the peers said."""
        return self.machine.logs()

    @property
    def store(self) -> minio.Minio:
        """The bucket's server, past the proxy: as clients and administrators reach it."""
        return minio.Minio(
            self.s3.endpoint.removeprefix("http://"),
            access_key=self.s3.access_key,
            secret_key=self.s3.secret_key,
            secure=False,
        )

    def damage_bytes(self) -> None:
        """What is spoilt arrives with a wrong bit, there or here."""
        self.proxy.fault = Fault(only=self.spoilers, flip_at=BYTE, flip_request_at=BYTE)

    def answer_errors(self) -> None:
        """What is spoilt is answered with an error of the store's own."""
        self.proxy.fault = Fault(only=self.spoilers, status=500)

    def put_right(self) -> None:
        """Nothing goes wrong any more."""
        self.spoilers.clear()
        self.damage_bytes()
        self.ffmpeg.repair()
        self.s3.start()
        for name in PEERS:
            if self.status(name).get("state") == "draining":
                self.machine.peerctl("resume", "--peer", name)

    def status(self, name: str) -> dict[str, Any]:
        """What a peer says of itself; nothing while it does not answer."""
        answer: dict[str, Any] = self.machine.ask(name, "status", {})
        return answer

    def launch_peers(self, *names: str) -> None:
        """Start peers, and wait until they work and see all that run."""
        for name in names:
            self.machine.launch(name, "--slots", str(SLOTS))
        for name in names:
            self.machine.wait(partial(self.works, name), START_WITHIN_S)
        for name in PEERS:
            self.machine.wait(partial(self._sees_all, name))
        # Where it was never tried before, the first peers make the queues: clients come after that.
        self.machine.wait(self.depth)

    def restart_peer(self, name: str) -> None:
        """As an operator does it: let it finish, then start it again."""
        assert self.machine.end(name) == 128 + signal.SIGTERM
        self.launch_peers(name)

    def works(self, name: str) -> bool:
        """Whether a peer takes work."""
        return self.status(name).get("state") == "working"

    def depth(self) -> dict[str, Any]:
        """How many messages there are; nothing while a peer cannot tell."""
        answer: dict[str, Any] = self.machine.ask(PEERS[0], "queue", {})
        return answer

    def wait_until_queue_is_empty(self) -> None:
        """No message waits, is worked on, or is delayed."""

        def is_empty() -> bool:
            depth = self.depth()
            return [depth.get(what) for what in ("ready", "unacknowledged", "delayed")] == [0] * 3

        self.machine.wait(is_empty)

    def runs_as(self, name: str, pid: int) -> bool:
        """Whether a peer answers, and is this process."""
        return self.status(name).get("pid") == pid

    def is_well(self, name: str) -> bool:
        """Whether a peer takes work, and all that it depends on answers."""
        status = self.status(name)
        breakers = set(status.get("breakers", {}).values())
        return status.get("state") == "working" and breakers == {"closed"}

    def _sees_all(self, name: str) -> bool:
        return self.machine.living(name) >= set(PEERS)

    @property
    def containers(self) -> set[str]:
        """The peers' containers, as they name themselves in events."""
        return {f"pid:{self.machine.processes[name].pid}" for name in PEERS}


@contextmanager
def open_site(
    rabbit: RabbitServer, postgres: PostgresServer, s3: S3Server, directory: Path
) -> Iterator[Site]:
    """Start what is not running yet, and at the end stop it, by process id.

    Args:
        directory: An empty one.
    """
    tools, number = find_tools(), uuid4().hex[:8]
    with ExitStack() as stack:
        peers, configuration = directory / "peers", directory / "grapevine.toml"
        peers.mkdir()
        site = Site(
            rabbit=rabbit,
            postgres=postgres,
            s3=s3,
            proxy=stack.enter_context(FaultyProxy(s3.port)),
            spoilers=Spoilers(),
            webhook=stack.enter_context(WebHook().running()),
            ffmpeg=BreakableFfmpeg(directory, tools),
            machine=Machine(peers, configuration),
            database=f"features_{number}",
            prefix=f"features-{number}",
            bucket=f"features-{number}",
        )
        with psycopg.connect(postgres.url, autocommit=True) as admin:
            admin.execute(f"CREATE DATABASE {site.database}".encode())
        site.store.make_bucket(site.bucket)
        site.damage_bytes()
        configuration.touch(mode=0o600)
        configuration.write_text(_configuration(site, tools))
        stack.callback(rabbit.remove_queues, site.prefix)
        stack.callback(site.machine.stop_all)
        site.launch_peers(*PEERS)
        yield site


def _configuration(site: Site, tools: Tools) -> str:
    texts = {
        "ledger": site.ledger_url,
        "queue": site.rabbit.url,
        "prefix": site.prefix,
        "management": site.rabbit.management_url,
        "endpoint": site.proxy.endpoint,
        "bucket": site.bucket,
        "access_key": site.s3.access_key,
        "secret_key": site.s3.secret_key,
        "ffmpeg": str(site.ffmpeg.program),
        "ffprobe": str(tools.ffprobe),
        "webhook": f"json://127.0.0.1:{site.webhook.server_port}/",
    }
    return CONFIGURATION.format(
        store_patience_s=STORE_PATIENCE_S,
        base_s=RETRY_BASE_S,
        # A JSON text is one of TOML's, too.
        **{name: json.dumps(text) for name, text in texts.items()},
    )
