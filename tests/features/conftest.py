"""One set of services and peers for all scenarios, and what both features' scenarios begin with."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
from pytest_bdd import given

from pipeline.media.tools import find_tools
from tests.features.client import Asked, Client
from tests.features.services_rig import PEERS, Site, open_site
from tests.servers.rabbitmq import RabbitServer
from tests.servers.s3 import S3Server

PICTURE = ("-f", "lavfi", "-i", "testsrc2=s=320x180:r=25:d=2")
TONE = ("-f", "lavfi", "-i", "sine=440:r=48000:d=2")
CODERS = ("-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac")


@dataclass(slots=True)
class Story:
    """What a scenario remembers from one step to the next.

    Args:
        neighbour: A task that nothing is wrong with, which is worked on meanwhile.
        asked: The task that it is about, where there is only one.
        troubled: By what goes wrong with them, the tasks that something goes wrong with.
        lasting: What goes wrong goes on doing so until somebody ends it.
        pids: The processes of the peers at its beginning.
    """

    neighbour: Asked | None = None
    asked: Asked | None = None
    troubled: dict[str, Asked] = field(default_factory=dict)
    lasting: bool = True
    pids: dict[str, int] = field(default_factory=dict)

    @property
    def task(self) -> Asked:
        assert self.asked is not None
        return self.asked


@pytest.fixture(scope="session")
def site(
    rabbit: RabbitServer, s3: S3Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    with open_site(rabbit, s3, tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest.fixture(scope="session")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds, small enough that a scenario takes seconds."""
    path = tmp_path_factory.mktemp("video") / "clip.mp4"
    command = [str(find_tools().ffmpeg), "-nostdin", "-v", "error", *PICTURE, *TONE, *CODERS]
    subprocess.run([*command, str(path)], check=True, timeout=60, stdin=subprocess.DEVNULL)
    return path


@pytest.fixture
def client(site: Site, video: Path) -> Iterator[Client]:
    client = Client(site, video)
    yield client
    client.close()


@pytest.fixture
def story(site: Site) -> Iterator[Story]:
    """A new one for each scenario; whatever it has broken is put right at its end."""
    yield Story(pids={name: site.machine.processes[name].pid for name in PEERS})
    site.put_right()


@given("the system is actively processing video transcoding tasks")
def system_is_processing(site: Site, client: Client, story: Story) -> None:
    for name in PEERS:
        site.machine.wait(partial(site.works, name))
    story.neighbour = client.submit()
    client.wait_for_events(story.neighbour, "TaskReceived")
