"""One set of services and peers for all scenarios of the pipeline; Swarms for those of scaling."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
from pytest_bdd import given

from pipeline.media.tools import find_tools
from tests.features import scaling_story
from tests.features.client import Asked, Client
from tests.features.fake_stage import fake_stage
from tests.features.lab_stage import lab_stage
from tests.features.services_rig import PEERS, Site, open_site
from tests.features.swarm_clusters import Clusters, MakeStage
from tests.features.swarm_stage import Services, Settings
from tests.servers.postgres import PostgresServer, public_directory
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
def postgres() -> Iterator[PostgresServer]:
    """One for all scenarios, each cluster with a database of its own."""
    with public_directory() as directory:
        server = PostgresServer(directory / "postgres", settings={"max_connections": "200"})
        server.start()
        yield server
        server.kill()


@pytest.fixture(scope="session")
def site(
    rabbit: RabbitServer,
    postgres: PostgresServer,
    s3: S3Server,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Site]:
    with open_site(rabbit, postgres, s3, tmp_path_factory.mktemp("site")) as site:
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


# Scenarios of scaling


Deploy = Callable[[Settings], scaling_story.Story]
"""Provides a cluster that is as it was told to be at its beginning."""


@pytest.fixture(scope="session")
def services(rabbit: RabbitServer, postgres: PostgresServer, s3: S3Server) -> Services:
    """What peers on a Swarm depend on: one of each for all scenarios, which share nothing there."""
    return Services(rabbit=rabbit, postgres=postgres, s3=s3)


@pytest.fixture(scope="module", params=["fake", "lab"])
def stages(
    request: pytest.FixtureRequest, services: Services, tmp_path_factory: pytest.TempPathFactory
) -> MakeStage:
    """Makes Swarms with nothing on them, one at a time: fake ones, and then real ones."""
    if request.param == "fake":
        return lambda: fake_stage(tmp_path_factory.mktemp("peers"))
    request.getfixturevalue("peer_image")
    return partial(lab_stage, request.getfixturevalue("lab"), services)


@pytest.fixture(scope="module")
def clusters(
    stages: MakeStage, services: Services, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Clusters]:
    """The cluster of one scenario, and of the next one if it wants the same."""
    with Clusters(stages, services, tmp_path_factory) as clusters:
        yield clusters


@pytest.fixture(scope="session")
def videos(video: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By name: two seconds, eight, and one that takes a processor some seconds to encode."""
    directory, ffmpeg = tmp_path_factory.mktemp("videos"), str(find_tools().ffmpeg)
    made = {"short": video}
    for name, size, length_s in (("long", "320x180", 8), ("heavy", "1280x720", 10)):
        made[name] = directory / f"{name}.mp4"
        picture = ("-f", "lavfi", "-i", f"testsrc2=s={size}:r=25:d={length_s}")
        tone = ("-f", "lavfi", "-i", f"sine=440:r=48000:d={length_s}")
        subprocess.run(
            [ffmpeg, "-nostdin", "-v", "error", *picture, *tone, *CODERS, str(made[name])],
            check=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
        )
    return made


@pytest.fixture
def settings() -> Settings:
    """The cluster's, where a scenario does not say otherwise."""
    return Settings()


@pytest.fixture
def deploy(clusters: Clusters, videos: dict[str, Path]) -> Iterator[Deploy]:
    """How a scenario comes by its cluster."""
    with ExitStack() as stack:

        def make(settings: Settings) -> scaling_story.Story:
            story = scaling_story.Story.begin(clusters.provide(settings), videos)
            stack.callback(story.close)
            return story

        yield make
