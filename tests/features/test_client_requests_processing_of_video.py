"""The feature "Client Requests Processing of Video", step by step, on real services."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
from pytest_bdd import given, parsers, scenarios, then, when

from peer.machine import default_name
from pipeline.media.tools import find_tools
from tests.features.client import THRESHOLD, Asked, Client, Row
from tests.features.conftest import Story
from tests.features.services_rig import PEERS, Site

pytestmark = pytest.mark.slow

scenarios("client_requests_processing_of_video.feature")

BITRATE_TOLERANCE = 1.5
"""How far the bitrate of two seconds may be above what is meant for hours."""


@given("a client request received over the message bus / queue")
def request_received(site: Site, client: Client, story: Story) -> None:
    """RabbitMQ has it, and nobody has taken it off: the peers are made to pause for that."""
    for name in PEERS:
        site.machine.peerctl("drain", "--peer", name)
    story.asked = client.submit()
    client.wait(lambda: client.waiting_messages() > 0, "the message waits")
    assert client.events(story.asked) == []


@when("the message is taken off of the message bus / queue")
def message_is_taken_off(site: Site, client: Client) -> None:
    for name in PEERS:
        site.machine.peerctl("resume", "--peer", name)
    client.wait(lambda: client.waiting_messages() == 0, "no message waits")


@given(parsers.parse("the request is of a client that {does}"), target_fixture="has_database")
def kind_of_client(does: str) -> bool:
    return {"has written the task's row itself": True, "cannot reach the database": False}[does]


@given("the video task details are available via RabbitMQ", target_fixture="details")
def details_are_available(client: Client, story: Story, has_database: bool) -> Row | None:
    """Where the message's id leads to them, or in the message itself."""
    story.asked = client.ask()
    with client.channel() as channel:
        channel.exchange_declare(client.exchange, passive=True)
    if has_database:
        client.write_row(story.asked)
        assert client.task(story.asked)["source"] == story.asked.key
        return None
    assert client.task(story.asked) == {}
    return {
        "source": story.asked.key,
        "ladder": story.asked.ladder_text,
        "attempts_max": THRESHOLD,
    }


@given("the necessary video file exists in the object store")
def video_exists(site: Site, client: Client, story: Story) -> None:
    client.put_video(story.task)
    found = site.store.stat_object(site.bucket, story.task.key)
    assert found.size == client.video.stat().st_size


@when("client request received over RabbitMQ with a task ID")
def request_with_task_id(client: Client, story: Story, details: Row | None) -> None:
    """Publishing fails unless the broker has confirmed that a queue has the message."""
    client.publish(story.task, details)


@then("take message off of RabbitMQ containing the task ID")
def message_taken(client: Client, story: Story) -> None:
    (received,) = client.wait_for_events(story.task, "TaskReceived")
    assert received["task_id"] == story.task.task_id
    client.wait(lambda: client.waiting_messages() == 0, "no message waits")


@then("a TaskReceived event is logged to the database")
@then(
    "log to the database that this task ID was taken off"
    " with details about the container that is processing it"
)
def received_is_logged(site: Site, client: Client, story: Story) -> None:
    (event,) = client.wait_for_events(story.task, "TaskReceived")
    assert event["container"] in site.containers
    assert event["node"] == default_name()
    assert re.fullmatch("[0-9a-f]{16}", event["peer_uid"])
    assert event["data"]["attempt"] == 1
    (claim,) = client.claims(story.task)
    for detail in ("container", "node", "peer_uid", "epoch"):
        assert claim[detail] == event[detail]


@then("retrieve task details from the database using the provided task ID")
def details_are_retrieved(client: Client, story: Story) -> None:
    (event,) = client.wait_for_events(story.task, "TaskDetailsRetrieved")
    task = client.task(story.task)
    assert event["data"]["source"] == task["source"] == story.task.key
    assert [rung["width"] for rung in task["ladder"]["rungs"]] == [
        r.width for r in story.task.ladder
    ]


@then("the necessary video file is pulled from the object store based on the task details")
@then("pull the necessary video file from the object store based on the task details")
def video_is_pulled(site: Site, client: Client, story: Story) -> None:
    """All of its bytes have come out of the store, from where the task's row says."""
    key, size = client.task(story.task)["source"], client.video.stat().st_size

    def came() -> int:
        return sum(
            exchange.sent
            for exchange in list(site.proxy.exchanges)
            if exchange.method == "GET" and key in exchange.target and exchange.status in (200, 206)
        )

    client.wait(lambda: came() == size, "all of the video is pulled")


@then("a VideoFilePulled event is logged to the database")
@then("log in the database that the video file has been pulled for transcoding")
def pulled_is_logged(client: Client, story: Story) -> None:
    (event,) = client.wait_for_events(story.task, "VideoFilePulled")
    assert event["data"]["size"] == client.video.stat().st_size


@then("the video file is transcoded to desired resolutions and bitrates")
@then("transcode the video file to desired resolutions and bitrates")
def video_is_transcoded(client: Client, story: Story, tmp_path: Path) -> None:
    """What ffprobe finds in the files that the client gets is what it has asked for."""
    client.wait_for_state(story.task, "done")
    made = [output for output in client.outputs(story.task) if output["kind"] == "rendition"]
    found = {
        probe(client.fetch(output["key"], tmp_path / f"{number}.mp4"))
        for number, output in enumerate(made)
    }
    rates = {(width, height): rate for width, height, rate in found}
    wanted = {(rung.width, rung.height): rung.video_bitrate for rung in story.task.ladder}
    assert rates.keys() == wanted.keys()
    for size, rate in rates.items():
        assert rate <= BITRATE_TOLERANCE * wanted[size]
    assert sorted(rates, key=lambda size: rates[size]) == sorted(
        wanted, key=lambda size: wanted[size]
    )


def probe(file: Path) -> tuple[int, int, int]:
    """Width, height and bits per second of the picture."""
    command = [
        *(str(find_tools().ffprobe), "-v", "error", "-select_streams", "v:0"),
        *("-show_entries", "stream=width,height,bit_rate", "-of", "json", str(file)),
    ]
    said = subprocess.run(command, check=True, capture_output=True, timeout=60)
    (stream,) = json.loads(said.stdout)["streams"]
    return stream["width"], stream["height"], int(stream["bit_rate"])


@then("a VideoTranscoded event is logged to the database")
@then("log in the database that the video has been transcoded")
def transcoded_is_logged(client: Client, story: Story) -> None:
    (event,) = client.wait_for_events(story.task, "VideoTranscoded")
    assert set(event["data"]["renditions"]) == {
        output["rendition"]
        for output in client.outputs(story.task)
        if output["kind"] == "rendition"
    }


@then("the transcoded video file is uploaded back to the storage service")
@then("upload the transcoded video file back to the storage service")
def transcoded_is_uploaded(client: Client, story: Story) -> None:
    """The bucket has what was committed, whole, and nothing else of this task."""
    committed = {output["key"]: output["size"] for output in client.outputs(story.task)}
    assert committed
    assert client.stored(story.task) == committed


@then("a TranscodedVideoUploaded event is logged to the database")
@then("log in the database that the transcoded video has been uploaded")
def uploaded_is_logged(site: Site, client: Client, story: Story) -> None:
    (event,) = client.wait_for_events(story.task, "TranscodedVideoUploaded")
    stored = client.stored(story.task)
    assert event["data"]["files"] == len(stored)
    assert event["data"]["size"] == sum(stored.values())
    assert all(key.startswith(event["data"]["prefix"] + "/") for key in stored)
    nothing_is_left(site, client, story.task)


def nothing_is_left(site: Site, client: Client, asked: Asked) -> None:
    """All was said in its order, once, by one container; and the message is gone for good."""
    events = client.events(asked)
    assert [event["type"] for event in events] == [
        "TaskReceived",
        "TaskDetailsRetrieved",
        "VideoFilePulled",
        "WorkloadProcessingStarted",
        "VideoTranscoded",
        "TranscodedVideoUploaded",
        "WorkloadProcessingFinished",
    ]
    assert len({event["container"] for event in events}) == 1
    site.wait_until_queue_is_empty()
