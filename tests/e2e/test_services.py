"""Peers on services of other people's: RabbitMQ, PostgreSQL by TCP and S3, named in one TOML file.

Servers, peers, ffmpeg and what people type are real. Two peers work on all of it; what must break
one (a wrong password, an ffmpeg that fails) has a peer of its own.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pika
import psycopg
import pytest
from minio import Minio

from pipeline.media.tools import Tools
from pipeline.queues.rabbitmq.management import ABSENT_S
from pipeline.queues.rabbitmq.topology import Topology
from tests.e2e.cluster_rig import HURRY_S, LEASE_S, Machine
from tests.servers.postgres import PostgresServer, public_directory
from tests.servers.rabbitmq import RabbitServer
from tests.servers.s3 import S3Server
from tests.servers.webhook import WebHook

pytestmark = pytest.mark.slow

NAMES = ("one", "two")
CANCELLED_WITHIN_S = 5.0


TOPOLOGY = Topology("grapevine")


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """Somebody on the broker, with a virtual host of the same name."""

    name: str
    password: str


@contextmanager
def user_of(rabbit: RabbitServer, name: str) -> Iterator[User]:
    """Make a user with no more rights than README.md gives to peers."""
    user = User(name=name, password=uuid4().hex)
    rights = [r"^grapevine\."] * 3
    rabbit.control("add_vhost", name)
    rabbit.control("add_user", name, user.password)
    rabbit.control("set_permissions", "-p", name, name, *rights)
    rabbit.control("set_user_tags", name, "management")
    try:
        yield user
    finally:
        rabbit.control("delete_user", name)
        rabbit.control("delete_vhost", name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The servers, and a settings file that names them.

    Args:
        buckets: What the S3 server holds, for tests to look into.
        broker: Who the peers are there, and where.
        hook: Where the administrators are told.
    """

    config: Path
    rabbit: RabbitServer
    s3: S3Server
    buckets: Minio
    broker: User
    postgres: PostgresServer
    hook: WebHook


@pytest.fixture(scope="module")
def services(rabbit: RabbitServer, s3: S3Server) -> Iterator[Services]:
    """The session's broker and store under names of this module's own, and a database server."""
    with ExitStack() as stack:
        directory = stack.enter_context(public_directory())
        postgres = PostgresServer(directory / "postgres")
        postgres.start()
        stack.callback(postgres.kill)
        hook = stack.enter_context(WebHook().running())
        number = uuid4().hex[:8]
        broker = stack.enter_context(user_of(rabbit, f"services-{number}"))
        secrets = {
            "ledger-url": postgres.url,
            "queue-password": broker.password,
            "s3-credentials": "[default]\n"
            f"aws_access_key_id = {s3.access_key}\naws_secret_access_key = {s3.secret_key}\n",
        }
        for name, text in secrets.items():
            (directory / name).write_text(text)
        config = directory / "grapevine.toml"
        config.write_text(
            f"""
            [ledger]
            url_file = "ledger-url"
            [queue]
            url = "amqp://{broker.name}@127.0.0.1:{rabbit.port}/{broker.name}"
            password_file = "queue-password"
            management_url = "{rabbit.management_url}"
            [store.s3]
            endpoint = "{s3.endpoint}"
            bucket = "grapevine-{number}"
            create_bucket = true
            credentials_file = "s3-credentials"
            [notify]
            urls = ["json://127.0.0.1:{hook.server_port}/hook-password"]
            interval_s = 1
            [retry]
            base_s = 0.2
            """
        )
        host = s3.endpoint.removeprefix("http://")
        yield Services(
            config=config,
            rabbit=rabbit,
            s3=s3,
            buckets=Minio(host, s3.access_key, s3.secret_key, secure=False, region=s3.region),
            broker=broker,
            postgres=postgres,
            hook=hook,
        )


@pytest.fixture(scope="module")
def machine(services: Services) -> Iterator[Machine]:
    """Two peers on all of it."""
    with public_directory() as data_dir:
        machine = Machine(data_dir, services.config)
        try:
            machine.start(*NAMES)
            yield machine
            machine.stop_all()
            machine.wait(lambda: not machine.left_running(), 30)
        finally:
            machine.stop_all()


@pytest.fixture(scope="module")
def clip(tools: Tools, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second of video."""
    return make_clip(tools, tmp_path_factory.mktemp("clips") / "clip.mp4", "320x180", seconds=1)


@pytest.fixture(scope="module")
def long_clip(tools: Tools, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that takes some seconds to encode, so that there is a middle."""
    return make_clip(tools, tmp_path_factory.mktemp("clips") / "long.mp4", "960x540", seconds=30)


def make_clip(tools: Tools, clip: Path, size: str, *, seconds: int) -> Path:
    video = f"testsrc2=size={size}:rate=30:duration={seconds},noise=alls=20:allf=t"
    encoding = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p"]
    command = [str(tools.ffmpeg), "-v", "error", "-nostdin", "-f", "lavfi", "-i", video, *encoding]
    subprocess.run([*command, str(clip)], check=True)
    return clip


def keys(services: Services, bucket: str, prefix: str) -> list[str]:
    """What lies in a bucket below a prefix."""
    found = services.buckets.list_objects(bucket, prefix=prefix, recursive=True)
    return sorted(str(entry.object_name) for entry in found)


@pytest.fixture(scope="module")
def camera(services: Services, clip: Path) -> str:
    """A bucket that is not Grapevine's, with a video in it."""
    bucket = f"camera-{uuid4().hex[:8]}"
    services.buckets.make_bucket(bucket)
    services.buckets.fput_object(bucket, "2026/clip.mp4", str(clip))
    return bucket


def depth(machine: Machine) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(machine.peerctl("queue", "--json", "--peer", "one"))
    return answer


def empty(machine: Machine) -> bool:
    """Whether the queue holds nothing that somebody would still get."""
    counted = depth(machine)
    return not any(counted[name] for name in ("ready", "unacknowledged", "delayed"))


def test_the_doctor_says_what_each_service_is(machine: Machine, services: Services) -> None:
    """Each by its kind and place, no password among it; and all is well."""

    def counted() -> dict[str, Any]:
        """Its answers, when it can say how much is being worked on: a broker that was too slow once
        is not asked for that for a minute."""
        found = {check["check"]: check for check in json.loads(machine.peerctl("doctor", "--json"))}
        return {} if "an unknown number" in found["one: queue"]["detail"] else found

    by_name: dict[str, Any] = machine.wait(counted, ABSENT_S + 30)
    for name, words in (
        ("one: ledger", "PostgreSQL"),
        ("one: queue", "RabbitMQ"),
        ("two: store", "s3://grapevine-"),
        ("two: notify", "administrators are told"),
    ):
        assert by_name[name]["ok"], by_name[name]
        assert words in by_name[name]["detail"]
    assert f"as {services.broker.name}" in by_name["one: queue"]["detail"]
    assert S3Server.secret_key not in json.dumps(by_name)


def test_a_test_notice_arrives(machine: Machine, services: Services) -> None:
    """Sent when a person asks for it, once, and the password of its address is nowhere."""
    said = machine.peerctl("doctor", "--notify")
    assert "a test notice was sent" in said
    assert [posted.fields["title"] for posted in services.hook.posted] == [
        "Grapevine: this is a test"
    ]
    services.hook.posted.clear()
    assert "hook-password" not in said + machine.logs()


def test_a_file_becomes_objects(machine: Machine, services: Services, clip: Path) -> None:
    """The source is copied into the bucket, the outputs lie under their attempt's prefix, what is
    told are addresses of S3, and no message is left."""
    task_id = machine.submit(clip, "--priority", "high")
    task = machine.wait_for_task(task_id, "done")

    bucket = task["outputs"][0]["url"].split("/")[2]
    assert task["priority"] == "high"
    assert len(keys(services, bucket, f"sources/{task_id}/")) == 1
    made = keys(services, bucket, f"tasks/{task_id}/")
    assert made == sorted(output["key"] for output in task["outputs"])
    assert all(key.startswith(f"tasks/{task_id}/attempt-1/") for key in made)
    assert {output["url"] for output in task["outputs"]} == {f"s3://{bucket}/{key}" for key in made}
    machine.wait(lambda: empty(machine), 30)


def test_what_lies_in_s3_is_used_where_it_lies(
    machine: Machine, services: Services, camera: str
) -> None:
    """A source in another bucket is not copied; one that is not there is said at once."""
    task_id = machine.submit(f"s3://{camera}/2026/clip.mp4")
    task = machine.wait_for_task(task_id, "done")
    assert (task["title"], task["source"]) == ("clip.mp4", f"s3://{camera}/2026/clip.mp4")
    bucket = task["outputs"][0]["url"].split("/")[2]
    assert keys(services, bucket, f"sources/{task_id}/") == []
    assert keys(services, camera, "") == ["2026/clip.mp4"]

    said = machine.peerctl("submit", f"s3://{camera}/2026/clap.mp4", code=1)
    assert "clap.mp4" in said
    said = machine.peerctl("submit", f"s3://{camera}", code=2)
    assert "write s3://bucket/key" in said


@contextmanager
def channel_to(services: Services) -> Iterator[Any]:
    """A channel of any client's, with pika."""
    who = services.broker
    url = f"amqp://{who.name}:{who.password}@127.0.0.1:{services.rabbit.port}/{who.name}"
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        yield connection.channel()


def send(services: Services, body: bytes, key: str = "normal") -> None:
    """Publish a message as any client would."""
    with channel_to(services) as channel:
        channel.confirm_delivery()
        channel.basic_publish(TOPOLOGY.work, key, body, mandatory=True)


def test_a_message_is_enough(machine: Machine, services: Services, camera: str) -> None:
    """A client that reaches neither a peer nor the database hands in a whole task."""
    task_id = str(uuid4())
    task = {"source": f"s3://{camera}/2026/clip.mp4", "ladder": "320x180@300k", "title": "by pika"}
    send(services, json.dumps({"v": 1, "task_id": task_id, "task": task}).encode(), "low")
    told = machine.wait_for_task(task_id, "done")
    assert (told["title"], told["priority"], told["attempt"]) == ("by pika", "low", 1)


def test_a_message_that_nobody_can_read_is_set_aside(machine: Machine, services: Services) -> None:
    """It is counted with its reason, and the doctor tells of it."""
    send(services, b"no JSON")
    machine.wait(lambda: depth(machine)["dead"] == 1, 30)
    assert "not JSON" in depth(machine)["dead_reason"]
    assert "not JSON" in machine.peerctl("queue", "--peer", "one")
    assert "not JSON" in machine.peerctl("doctor", "--peer", "one", code=1)
    services.rabbit.control("purge_queue", "-p", services.broker.name, TOPOLOGY.dead)
    machine.wait(lambda: depth(machine)["dead"] == 0, 30)


def test_a_running_encode_is_cancelled_in_seconds(machine: Machine, long_clip: Path) -> None:
    """From another peer than the one that works; long before the lease, and its message is gone."""
    task_id = machine.submit(long_clip)
    holder = machine.encoding(task_id)
    other = next(name for name in NAMES if name != holder)
    began = time.monotonic()
    assert machine.ask(other, "cancel", None, id=task_id, reason="the wrong file")
    machine.wait(lambda: machine.ask(holder, "status", {}).get("running") == [], LEASE_S / 2)
    assert time.monotonic() - began < CANCELLED_WITHIN_S
    assert machine.task(task_id)["state"] == "cancelled"
    assert "the wrong file" in machine.peerctl("task", task_id)
    machine.wait(lambda: empty(machine), 30)


def test_a_person_lets_it_go_on(
    machine: Machine, services: Services, camera: str, clip: Path
) -> None:
    """What cannot be read waits for a person with its cause; with a better file in its place and a
    retry it is done, and what the person said is kept."""
    put = partial(services.buckets.fput_object, camera, "later.mp4")
    text = clip.with_suffix(".txt")
    text.write_text("not a video at all, and long enough to be looked at\n" * 100)
    put(str(text))
    task_id = machine.submit(f"s3://{camera}/later.mp4")
    machine.wait_for_task(task_id, "escalated")

    (told,) = json.loads(machine.peerctl("escalations", "--json"))
    assert (told["id"], told["title"], told["code"]) == (task_id, "later.mp4", "not_media")
    assert [attempt["peer"] in NAMES for attempt in told["story"]] == [True]
    machine.wait(lambda: services.hook.posted)
    (notice,) = services.hook.posted
    assert "later.mp4" in notice.fields["title"]
    assert f"peerctl retry {task_id}" in notice.fields["message"]
    page = machine.peerctl("escalations")
    assert "later.mp4  escalated" in page
    assert f"peerctl cancel {task_id[:8]}, and hand in another file" in page

    put(str(clip))
    machine.peerctl("retry", task_id[:8], "--reason", "uploaded again")
    machine.wait_for_task(task_id, "done")
    assert machine.peerctl("escalations") == "No task waits for a person.\n"
    page = machine.peerctl("task", task_id)
    assert "uploaded again" in page
    assert "not_media" in page
    machine.wait(lambda: empty(machine), 30)


def test_who_waits_in_line_is_told_when(machine: Machine, clip: Path) -> None:
    """While nobody works, those that wait have their places, the urgent one before the others."""
    for name in NAMES:
        machine.peerctl("drain", name, "--peer", "one")
    for name in NAMES:
        machine.wait_for_flag("one", name, "draining")
    try:
        waiting = {
            priority: machine.submit(clip, "--priority", priority)
            for priority in ("low", "normal", "high")
        }
        told = {task["id"]: task for task in json.loads(machine.peerctl("tasks", "--json"))}
        places = [told[waiting[priority]]["place"] for priority in ("high", "normal", "low")]
        assert places == sorted(places)
        assert places[0] == 1
        page = machine.peerctl("tasks")
        assert "PRIO" in page
        assert "next in line" in page
        assert depth(machine)["ready"] == len(waiting)
    finally:
        for name in NAMES:
            machine.peerctl("resume", name, "--peer", "one")
    for task_id in waiting.values():
        machine.wait_for_task(task_id, "done")


@pytest.mark.parametrize(
    ("settings", "dependency", "words"),
    [
        (["queue.password=wrong"], "queue", "password"),
        (["queue.prefix=grapevine.others"], "queue", "grapevine.others.normal"),
        (
            ["store.s3.bucket=nobody-has-made-it", "store.s3.create_bucket=false"],
            "store",
            "nobody-has-made-it",
        ),
        (["store.s3.endpoint=http://127.0.0.1:1"], "store", "refused"),
        (["ledger.url=postgresql://grapevine:wrong@127.0.0.1:{postgres}/postgres"], "ledger", ""),
    ],
)
def test_what_is_configured_wrongly_is_said_and_seen(
    machine: Machine, services: Services, settings: list[str], dependency: str, words: str
) -> None:
    """The peer starts, takes no work, and says what is wrong: in its log, in its status, to the
    doctor, and to the other peers."""
    with channel_to(services) as channel:  # no queue of ours, under a name of ours
        channel.queue_declare("grapevine.others.normal", durable=True)
    chosen = [text.format(postgres=services.postgres.port) for text in settings]
    machine.launch("stranger", *(word for text in chosen for word in ("--set", text)))
    try:
        machine.wait_for_flag("one", "stranger", f"{dependency} away")
        status = machine.ask("stranger", "status", {})
        assert status["state"] == ("starting" if dependency == "ledger" else "waiting")
        page = machine.peerctl("status", "--peer", "stranger")
        assert re.search(rf"stranger: {dependency} .*{words}", page), page
        doctor = machine.peerctl("doctor", "--peer", "stranger", code=1)
        log = (machine.data_dir / "stranger.log").read_text
        machine.wait(lambda: "cannot be used" in log() or "waiting for the ledger" in log())
        for said in (status["dependencies"][dependency], doctor, log()):
            assert words in said
            assert "wrong@" not in said
            assert S3Server.secret_key not in said
    finally:
        machine.end("stranger")


def test_a_store_that_comes_later(machine: Machine, services: Services, tmp_path: Path) -> None:
    """A peer whose store is not there when it starts works as soon as it is, bucket and all. It has
    a cluster of its own: to another one an empty store is a wrong one."""
    store = S3Server(tmp_path / "s3")
    with psycopg.connect(services.postgres.url, autocommit=True) as admin:
        admin.execute("CREATE DATABASE early")
    machine.launch(
        "early",
        *("--set", f"store.s3.endpoint={store.endpoint}"),
        *("--set", f"ledger.url={services.postgres.url_of('early')}"),
    )
    try:
        log = (machine.data_dir / "early.log").read_text
        machine.wait(lambda: "a dependency cannot be used" in log())
        store.start()
        machine.wait(lambda: log().count("dependency=store what=") == 1)
        machine.wait(lambda: machine.ask("early", "status", {}).get("state") == "working")
        assert machine.ask("early", "status", {})["dependencies"]["store"] == "ok"
    finally:
        machine.end("early")
        store.kill()


def broken_ffmpeg(tools: Tools, directory: Path) -> Path:
    """One that says what it is, and fails at every encode."""
    program = directory / "broken-ffmpeg"
    program.write_text(
        "#!/bin/sh\n"
        'for word in "$@"; do\n'
        '  case "$word" in\n'
        f'    -version|-encoders|-filters|-decoders|-buildconf) exec "{tools.ffmpeg}" "$@" ;;\n'
        "  esac\n"
        "done\n"
        'echo "Illegal instruction" >&2\n'
        "exit 132\n"
    )
    program.chmod(0o755)
    return program


def test_a_peer_that_fails_what_others_finish_stops(
    machine: Machine, tools: Tools, clip: Path
) -> None:
    """It burns a few attempts and not the queue, says in the table that it is quarantined, also
    after it was killed and started again, and works again when a person says so."""
    ffmpeg = broken_ffmpeg(tools, machine.data_dir)
    for name in NAMES:
        machine.peerctl("drain", name, "--peer", "one")
        machine.wait_for_flag("one", name, "draining")
    programs = (
        "--set",
        f"transcode.ffmpeg={ffmpeg}",
        "--set",
        f"transcode.ffprobe={tools.ffprobe}",
    )

    def state() -> str:
        return str(machine.ask("sick", "status", {}).get("state"))

    # All are there before it is: while they came it would fail the first ones again and again.
    task_ids = [machine.submit(clip) for _ in range(4)]
    machine.launch("sick", *programs)
    try:
        failed = partial(failed_by, machine, "sick")
        machine.wait(lambda: sum(failed(task_id) > 0 for task_id in task_ids) >= 3)
        for name in NAMES:
            machine.peerctl("resume", name, "--peer", "one")
        for task_id in task_ids:
            machine.wait_for_task(task_id, "done")
        machine.wait_for_flag("one", "sick", "quarantined", 120)
        assert state() == "quarantined"
        assert "failing what others finish: sick" in machine.peerctl("table", "--peer", "one")
        assert "peerctl resume sick" in machine.peerctl("doctor", "--peer", "sick", code=1)

        before = sum(map(failed, task_ids))
        machine.end("sick", signal.SIGKILL)
        machine.launch("sick", *programs)
        machine.wait(lambda: state() == "quarantined")
        more = [machine.submit(clip) for _ in range(3)]
        for task_id in more:
            machine.wait_for_task(task_id, "done")
        assert sum(map(failed, more)) == 0
        assert before <= 3 * len(task_ids)

        machine.peerctl("resume", "sick", "--peer", "one")
        machine.wait(lambda: "quarantined" not in machine.row("one", "sick").get("flags", ()))
        machine.end("sick", signal.SIGKILL)
        machine.launch("sick", *programs)
        machine.wait(lambda: state() == "working")
    finally:
        machine.end("sick")


def failed_by(machine: Machine, name: str, task_id: str) -> int:
    """How many attempts at a task that peer has failed."""
    attempts = machine.task(str(UUID(task_id))).get("attempts", [])
    return sum(one["peer_name"] == name and one["error"] is not None for one in attempts)


@pytest.mark.parametrize("service", ["postgres", "rabbit", "s3"])
def test_a_hurried_peer_waits_for_no_service(
    machine: Machine, services: Services, long_clip: Path, service: str
) -> None:
    """One that hangs while work is handed back: the peer is gone eight seconds after the second
    SIGTERM all the same, and the task is done by others once the service is back."""
    for name in NAMES:
        machine.peerctl("drain", name, "--peer", name)
    hurried = f"hurried-{service}"
    machine.launch(hurried)
    machine.wait(lambda: machine.ask(hurried, "status", {}).get("state") == "working")
    task_id = machine.submit(long_clip)
    assert machine.encoding(task_id) == hurried
    machine.processes[hurried].terminate()
    machine.wait_for_flag("one", hurried, "draining")
    servers: dict[str, PostgresServer | RabbitServer | S3Server] = {
        "postgres": services.postgres,
        "rabbit": services.rabbit,
        "s3": services.s3,
    }
    server = servers[service]
    server.freeze()
    try:
        began = time.monotonic()
        assert machine.end(hurried) == 143
        took_s = time.monotonic() - began
    finally:
        server.thaw()
    assert took_s < HURRY_S
    for name in NAMES:
        machine.peerctl("drain", name, "--undo", "--peer", name)
    *_, last = machine.wait_for_task(task_id, "done")["attempts"]
    assert last["peer_name"] in NAMES
