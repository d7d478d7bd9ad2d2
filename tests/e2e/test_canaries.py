"""No secret is written anywhere: each has a value of its own, and all that a peer says is searched.

Real peers at log level debug, on a real database, broker and store: one that works, finishes a task
and gives one up, and one whom everybody refuses. Searched are the logs, every row of the database,
every object of the store, all files of the peer, what `peerctl` prints, the support bundle, and the
command lines and environments of the processes. Where a secret lies by design (its own file, the
saved key ring) is named here, and nowhere else is it found.
"""

from __future__ import annotations

import base64
import gzip
import os
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

import psutil
import psycopg
import pytest
from minio import Minio
from psycopg import sql

from peer.config import Config
from peer.options import options_of
from peer.paths import Places
from pipeline.media.tools import Tools
from tests.e2e.cluster_rig import Machine, make_clip
from tests.servers.postgres import PostgresServer, public_directory
from tests.servers.rabbitmq import RabbitServer
from tests.servers.s3 import S3Server
from tests.servers.webhook import WebHook

pytestmark = pytest.mark.slow

PEER = "keeper-of-secrets"
WITHIN_S = 60.0
KEY = bytes(range(7, 39))
COMMANDS = (
    ("status",), ("status", "--json"), ("table", "--json"), ("doctor",), ("scale",),
    ("tasks", "--json"), ("events", "--json"), ("events", "--local", "--json"), ("queue",),
    ("escalations", "--json"), ("keys",),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Secrets:
    """The settings of a peer by their paths, of which some are secret.

    Args:
        hidden: What must be found nowhere, by the path of its setting.
        plain: All else.
    """

    hidden: Mapping[str, str]
    plain: Mapping[str, str]

    def environment(self, directory: Path) -> dict[str, str]:
        """For a peer: secrets in files, as stack.yml gives them."""
        directory.mkdir(mode=0o700)
        found = {_variable(path): value for path, value in self.plain.items()}
        for path, value in self.hidden.items():
            file = directory / path
            file.write_text(value + "\n")
            found[f"{_variable(path)}_FILE"] = str(file)
        return found

    def needles(self) -> dict[bytes, str]:
        """Every way in which one may be written, and whose it is."""
        found = {}
        for path, value in self.hidden.items():
            secret = value
            if "://" in value:
                who, at, place = value.partition("://")[2].rpartition("@")
                secret = who.partition(":")[2] if at else place.rpartition("/")[2]
            for text in (secret, quote(secret, safe="")):
                found[text.encode()] = path
                found[base64.b64encode(text.encode()).rstrip(b"=")] = path
        found[KEY] = "gossip.key"
        found[base64.b64encode(KEY).rstrip(b"=")] = "gossip.key"
        found[base64.urlsafe_b64encode(KEY).rstrip(b"=")] = "gossip.key"
        return found


def _variable(path: str) -> str:
    return f"GRAPEVINE_{path.replace('.', '_').upper()}"


class Search:
    """Looks for secrets in what it is given, and remembers where it has looked."""

    def __init__(self, secrets: Secrets) -> None:
        self._needles = secrets.needles()
        self.found: list[str] = []
        self.looked: dict[str, int] = {}

    def look(self, where: str, content: bytes | str) -> None:
        """Note every secret in this content."""
        content = content if isinstance(content, bytes) else content.encode()
        self.looked[where] = len(content)
        self.found += [
            f"{path} in {where}: …{content[max(0, content.index(needle) - 150) :][:250]!r}"
            for needle, path in self._needles.items()
            if needle in content
        ]


@pytest.fixture
def postgres() -> Iterator[PostgresServer]:
    """A database server that asks for a password."""
    with public_directory() as directory:
        server = PostgresServer(directory / "postgres")
        server.start()
        yield server
        server.kill()


@pytest.fixture
def hook() -> Iterator[WebHook]:
    """An administrators' address that answers that it is out of order."""
    with WebHook(status=500).running() as hook:
        yield hook


@pytest.fixture
def clip(tools: Tools, tmp_path: Path) -> Path:
    """One that takes some seconds to encode, so that there is a middle."""
    source = "testsrc2=size=960x540:rate=30:duration=8,noise=alls=20:allf=t"
    return make_clip(tools, tmp_path / "clip.mp4", source)


def run_peerctl(machine: Machine, environment: Mapping[str, str], *arguments: str) -> str:
    """What a command prints for a person who has the peer's own settings, failures too."""
    done = subprocess.run(
        [sys.executable, "-m", "peer.cli", *arguments],
        env={**os.environ, "GRAPEVINE_PEER_DATA_DIR": str(machine.data_dir), **environment},
        capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    return done.stdout + done.stderr


def search_everything(
    machine: Machine, environment: Mapping[str, str], search: Search, tmp_path: Path
) -> None:
    """What the peer, its files, its commands and its bundle say."""
    for command in COMMANDS:
        search.look(f"peerctl {' '.join(command)}", run_peerctl(machine, environment, *command))
    bundle = tmp_path / "bundle.tar.gz"
    log = machine.data_dir / f"{PEER}.log"
    said = run_peerctl(machine, environment, "bundle", "-o", str(bundle), "--log", str(log))
    search.look("what peerctl bundle said", said)
    search.look("the bundle", gzip.decompress(bundle.read_bytes()))
    search_processes(machine, search)
    rings = {Places(machine.data_dir).peer(PEER).gossip_keys, Places(machine.data_dir).gossip_keys}
    for file in machine.data_dir.rglob("*"):
        if stat.S_ISREG(file.lstat().st_mode) and file not in rings:
            search.look(f"the file {file.relative_to(machine.data_dir)}", file.read_bytes())
    for ring in rings:
        assert not ring.exists() or stat.S_IMODE(ring.stat().st_mode) == 0o600


def search_processes(machine: Machine, search: Search) -> None:
    """Command lines and environments of the peer and of all that it has started."""
    peer = psutil.Process(machine.processes[PEER].pid)
    for process in (peer, *peer.children(recursive=True)):
        with suppress(psutil.Error):
            line = " ".join(process.cmdline())
            search.look(f"the command line of {process.pid}", line)
            search.look(f"the environment of {process.pid} ({line})", repr(process.environ()))
            if process != peer:
                assert not [name for name in process.environ() if "GRAPEVINE" in name]


def search_database(url: str, search: Search) -> None:
    """Every row of every table, as text."""
    with psycopg.connect(url) as connection:
        tables = connection.execute(
            "SELECT schemaname, tablename FROM pg_tables"
            " WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
        ).fetchall()
        for schema, table in tables:
            statement = sql.SQL("SELECT t::text FROM {} t").format(sql.Identifier(schema, table))
            rows = [row for (row,) in connection.execute(statement)]
            search.look(f"the table {table}", "\n".join(rows))


def search_store(s3: S3Server, bucket: str, search: Search) -> None:
    """Every object, and its name."""
    store = Minio(
        s3.endpoint.removeprefix("http://"), s3.access_key, s3.secret_key,
        secure=False, region=s3.region,
    )  # fmt: skip
    for one in store.list_objects(bucket, recursive=True):
        name = one.object_name or ""
        search.look(f"the name of {name}", name)
        if name.endswith("/"):
            continue  # what some servers make of a directory
        search.look(f"the object {name}", store.get_object(bucket, name).read())


def test_a_secret_would_be_found() -> None:
    """The search finds each of them, as it is, quoted, and encoded, in the middle of a text."""
    secrets = Secrets(
        hidden={
            "ledger.url": "postgresql://somebody:pass/word@db/film",
            "notify.urls": "json://127.0.0.1:9/hook-token",
            "gossip.key": KEY.hex(),
        },
        plain={},
    )
    key = base64.urlsafe_b64encode(KEY).decode()
    for text in ("pass/word", "pass%2Fword", "cGFzcy93b3Jk", "hook-token", KEY.hex(), key):
        search = Search(secrets)
        search.look("a text", f"before {text} after")
        assert search.found, text
    search = Search(secrets)
    search.look("a text", "somebody at db/film")
    assert search.found == []


def test_a_peer_that_works_tells_no_secret(
    machine: Machine, postgres: PostgresServer, rabbit: RabbitServer, s3: S3Server,
    hook: WebHook, clip: Path, tmp_path: Path,
) -> None:  # fmt: skip
    """It finishes a task, gives one up, and fails to tell the administrators; what it writes,
    everywhere, has no secret in it, nor has its encoder's environment."""
    number = uuid4().hex[:8]
    broker, password = f"canaries-{number}", f"canary-queue-{number}"
    rabbit.control("add_vhost", broker)
    rabbit.control("add_user", broker, password)
    rabbit.control("set_permissions", "-p", broker, broker, *[r"^grapevine\."] * 3)
    secrets = Secrets(
        hidden={
            "ledger.url": postgres.url,
            "queue.password": password,
            "store.s3.secret_key": s3.secret_key,
            "notify.urls": f"json://127.0.0.1:{hook.server_port}/canary-hook-{number}",
            "gossip.key": KEY.hex(),
        },
        plain={
            "queue.url": f"amqp://{broker}@127.0.0.1:{rabbit.port}/{broker}",
            "store.s3.endpoint": s3.endpoint,
            "store.s3.access_key": s3.access_key,
            "store.s3.bucket": f"canaries-{number}",
            "store.s3.create_bucket": "true",
            "notify.interval_s": "1",
            "retry.base_s": "0.1",
            "peer.log_level": "debug",
            "peer.log_format": "json",
            "gossip.listen": "127.0.0.1:0",
        },
    )
    environment = secrets.environment(tmp_path / "secrets")
    search = Search(secrets)
    try:
        machine.launch(PEER, environment=environment)
        machine.wait(lambda: machine.ask(PEER, "status", {}).get("state") == "working", WITHIN_S)
        broken = tmp_path / "broken.mp4"
        broken.write_bytes(b"no video at all")
        given_up, done = machine.submit(broken), machine.submit(clip)
        machine.encoding(done)
        search_processes(machine, search)
        machine.wait_for_task(done, "done", WITHIN_S)
        machine.wait_for_task(given_up, "escalated", WITHIN_S)
        machine.wait(lambda: hook.posted, WITHIN_S)
        search_everything(machine, environment, search, tmp_path)
        search.look("what the administrators are told", repr([one.fields for one in hook.posted]))
        search_database(postgres.url, search)
        search_store(s3, f"canaries-{number}", search)
        machine.end(PEER)
        search.look("the log to its end", (machine.data_dir / f"{PEER}.log").read_bytes())
    finally:
        machine.stop_all()
        rabbit.control("delete_user", broker)
        rabbit.control("delete_vhost", broker)
    assert search.found == []
    assert len(search.looked) > 40, search.looked
    for where in (
        "peerctl status --json",
        "peerctl events --json",
        "the bundle",
        "the table tasks",
    ):
        assert search.looked[where] > 100, where


def test_a_peer_that_is_refused_tells_no_secret(
    machine: Machine, postgres: PostgresServer, rabbit: RabbitServer, s3: S3Server, tmp_path: Path,
) -> None:  # fmt: skip
    """Wrong passwords everywhere, and nobody there at all: what libraries put into their errors
    is where passwords are told."""
    secrets = Secrets(
        hidden={
            "ledger.url": postgres.url_of("postgres", password="canary-ledger/?"),
            "queue.url": f"amqp://nobody:canary-queue@127.0.0.1:{rabbit.port}/",
            "store.s3.access_key": "canary-access",
            "store.s3.secret_key": "canary-store",
            "store.s3.session_token": "canary-session",
            "notify.urls": "json://somebody:canary-mail@127.0.0.1:9/canary-hook",
            "gossip.key": KEY.hex(),
            "scaling.provider.join_token": "SWMTKN-1-canary-join",
            "scaling.provider.libcloud.key": "canary-cloud-user",
            "scaling.provider.libcloud.secret": "canary-cloud",
        },
        plain={
            "store.s3.endpoint": s3.endpoint,
            "store.s3.bucket": "canaries",
            "peer.log_level": "debug",
            "gossip.listen": "127.0.0.1:0",
            "scaling.orchestrator": "swarm",
            "scaling.swarm.managers": "tcp://127.0.0.1:9",
            "scaling.provider.kind": "libcloud",
            "scaling.provider.libcloud.provider": "openstack",
            "scaling.provider.libcloud.size": "m1.large",
            "scaling.provider.libcloud.image": "debian-12",
        },
    )
    every = {option.path for option in options_of(Config) if option.secret}
    # This one excludes a password in the URL; the peer above has it.
    assert every - {"queue.password"} == secrets.hidden.keys(), (
        "a secret setting was added: try it here, too"
    )
    environment = secrets.environment(tmp_path / "secrets")
    search = Search(secrets)
    machine.launch(PEER, environment=environment)

    def troubles() -> bool:
        standing = machine.ask(PEER, "status", {}).get("dependencies", {})
        return bool(standing) and all(
            standing.get(name, "ok") != "ok" for name in ("ledger", "queue", "store")
        )

    machine.wait(troubles, WITHIN_S)
    search_everything(machine, environment, search, tmp_path)
    machine.end(PEER)
    search.look("the log to its end", (machine.data_dir / f"{PEER}.log").read_bytes())
    assert search.found == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("gossip.key", "canary-key"),
        ("ledger.url", "mysql://somebody:canary-ledger@db/film"),
        ("queue.url", "http://somebody:canary-queue@broker"),
    ],
)
def test_a_setting_that_is_refused_is_not_repeated(path: str, value: str, tmp_path: Path) -> None:
    """A secret of a wrong form is called wrong by its name, not by its value."""
    given = {"GRAPEVINE_PEER_DATA_DIR": str(tmp_path), _variable(path): value}
    for program in (("peer",), ("peer.cli", "doctor")):
        said = subprocess.run(
            [sys.executable, "-m", *program],
            env={**os.environ, **given},
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert said.returncode != 0
        assert path.partition(".")[0] in said.stdout + said.stderr
        assert "canary" not in said.stdout + said.stderr
