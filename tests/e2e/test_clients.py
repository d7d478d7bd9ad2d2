"""The clients of pipeline/README.md, run as they stand there, against real services."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import trio

from pipeline.messages import decode_untrusted
from pipeline.queues.rabbitmq.config import RabbitConfig
from pipeline.queues.rabbitmq.queue import RabbitQueue
from pipeline.queues.rabbitmq.topology import REASON, Topology
from pipeline.tasks import Priority, TaskReport, TaskState
from tests.e2e.worker_rig import Rig, ScriptedTranscoder
from tests.missing import do_without
from tests.servers.rabbitmq import RabbitServer

README = files("pipeline").joinpath("README.md").read_text()
SOURCE = "uploads/holiday.mp4"
WITHIN_S = 20.0


def block(heading: str, number: int = 0) -> str:
    """The text of a fenced block below a heading."""
    section = README.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    blocks: list[str] = re.findall(r"```\w+\n(.*?)```", section, re.DOTALL)
    return blocks[number]


@pytest.fixture
async def queue(rabbit: RabbitServer) -> AsyncIterator[RabbitQueue]:
    """The broker's queues as peers without any settings of their own name them."""
    config = RabbitConfig(url=rabbit.url)
    queue = RabbitQueue(config)
    await queue.prepare()
    yield queue
    await queue.aclose()
    await trio.to_thread.run_sync(rabbit.remove_queues, config.prefix)


@pytest.fixture(scope="module", autouse=True)
def programs() -> None:
    """What the README's reader has installed."""
    if missing := [name for name in ("curl", "psql", "rabbitmqadmin") if not shutil.which(name)]:
        why = f"not installed: {', '.join(missing)} (curl, postgresql-client, rabbitmq-server)"
        do_without(why)


@pytest.fixture
def environment(rabbit: RabbitServer, ledger_url: str) -> Mapping[str, str]:
    """What the README's comments tell to set."""
    login = f"{rabbit.user}:{rabbit.password}"
    return {
        **os.environ,
        "RABBITMQ_URL": rabbit.url,
        "RABBITMQ_API": rabbit.management_url.replace("//", f"//{login}@"),
        "HOST": "127.0.0.1",
        "PORT": str(rabbit.management_port),
        "NAME": rabbit.user,
        "PASSWORD": rabbit.password,
        "DATABASE_URL": ledger_url,
        "SOURCE": SOURCE,
    }


async def put_source(rig: Rig) -> None:
    """Let the video lie in the peers' store."""
    (rig.directory / "upload").write_bytes(b"a video")
    await rig.store.push(rig.directory / "upload", SOURCE)


async def run(command: list[str], environment: Mapping[str, str]) -> str:
    """Run a client, and return what it said."""
    with trio.fail_after(WITHIN_S):
        done = await trio.run_process(
            command,
            env=environment,
            capture_stdout=True,
            stderr=subprocess.STDOUT,
            check=False,
        )
    assert done.returncode == 0, done.stdout.decode()
    return done.stdout.decode()


async def only_task(rig: Rig) -> TaskReport:
    """Wait for the one task that a client has handed in to be done."""
    with trio.fail_after(WITHIN_S):
        while True:
            reports = await rig.ledger.list_tasks(None, 10)
            if reports:
                [report] = reports
                return await rig.settled(report.id)
            await trio.sleep(0.02)


async def test_the_client_in_python(
    rig: Rig, queue: RabbitQueue, environment: Mapping[str, str], tmp_path: Path, make_peer: Any
) -> None:
    """A file with just that text hands in a video, which is transcoded; and it is short."""
    text = block("A client in Python")
    assert len([line for line in text.splitlines() if line and line[0] != "#"]) <= 15
    client = tmp_path / "client.py"
    client.write_text(text)
    await put_source(rig)
    async with rig.working(ScriptedTranscoder(), make_peer("one"), queue=queue):
        said = await run([sys.executable, str(client), SOURCE], environment)
        report = await only_task(rig)

    assert (report.id, report.state) == (UUID(said.strip()), TaskState.DONE)
    assert (report.source, report.title) == (SOURCE, "holiday.mp4")
    assert (report.ladder, report.priority) == ("1280x720@2500k,640x360@800k", Priority.NORMAL)


@pytest.mark.parametrize(
    ("heading", "number", "said", "ladder", "priority"),
    [
        pytest.param(
            *("By hand, over the management API", 0, '{"routed":true}', "hls", Priority.LOW),
            id="curl",
        ),
        pytest.param(
            *("By hand, over the management API", 1, "Message published", "web", Priority.HIGH),
            id="rabbitmqadmin",
        ),
        pytest.param(
            *("Writing the rows", 0, "Message published", "720p only", Priority.NORMAL),
            id="rows and a wake-up",
        ),
    ],
)
async def test_the_commands(
    rig: Rig,
    queue: RabbitQueue,
    environment: Mapping[str, str],
    make_peer: Any,
    heading: str,
    number: int,
    said: str,
    ladder: str,
    priority: Priority,
) -> None:
    """Each hands in a video, which is transcoded; the routing key is its priority."""
    await put_source(rig)
    async with rig.working(ScriptedTranscoder(), make_peer("one"), queue=queue):
        assert (await run(["sh", "-euc", block(heading, number)], environment)).strip() == said
        report = await only_task(rig)

    assert (report.state, report.source) == (TaskState.DONE, SOURCE)
    assert (report.ladder, report.priority) == (ladder, priority)


async def test_the_message_that_it_shows() -> None:
    """It is one."""
    shown = decode_untrusted(block("The message").encode()).submission
    assert shown is not None
    assert (shown.title, shown.attempts_max) == ("Holiday", 4)


async def test_a_bad_message_is_found_with_its_reason(
    rig: Rig, queue: RabbitQueue, environment: Mapping[str, str], make_peer: Any
) -> None:
    """The command shows both, as often as one looks; and so does the queue's depth."""
    bad = b'{"v": 1, "task_id": "seven"}'
    async with rig.working(ScriptedTranscoder(), make_peer("one"), queue=queue):
        await queue.publish(bad)
        with trio.fail_after(WITHIN_S):
            while not (depth := await queue.depth()).dead:  # noqa: ASYNC110 - a worker does it
                await trio.sleep(0.02)
    command = block("What becomes of a bad message")
    for _ in range(2):
        [message] = json.loads(await run(["sh", "-euc", command], environment))
        assert message["payload"] == bad.decode()
        assert "'seven' is not a UUID" in message["properties"]["headers"][REASON]
    assert "'seven' is not a UUID" in depth.dead_reason


def test_it_names_what_there_is() -> None:
    """The names in the text are those of the topology without a prefix of one's own."""
    topology = Topology(RabbitConfig().prefix)
    for name in (topology.work, topology.dead, REASON):
        assert f"`{name}`" in README
