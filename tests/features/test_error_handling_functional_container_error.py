"""The feature "Error Handling - Functional Container Error", step by step, on real services.

The errors are real ones: bytes that get damaged on the way from and to the store, an ffmpeg that
is out of order, a store that dies, and one that answers with errors of its own.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial

import pytest
from pytest_bdd import given, scenarios, then, when

from tests.features.client import THRESHOLD, Asked, Client, Row
from tests.features.conftest import Story
from tests.features.services_rig import PEERS, RETRY_BASE_S, Site
from tests.features.troubles import CODES, PULL, PUSH, TRANSCODE, ask_with_trouble, end_trouble

pytestmark = pytest.mark.slow

scenarios("error_handling_functional_container_error.feature")

RETRY, ESCALATION = "ContainerErrorRetry", "ContainerErrorEscalation"
REASON = "the cause was found and removed"
ROUNDING_S = 0.001
LAST_STEP = {PULL: "details_retrieved", TRANSCODE: "processing", PUSH: "transcoded"}
"""How far an attempt comes that fails in this stage."""
DELAYS_MAX = timedelta(seconds=sum(RETRY_BASE_S * 2**number for number in range(THRESHOLD - 1)))
ATTEMPTS_S = 30.0
"""For all attempts of a task themselves, on a machine that is busy."""


@dataclass(slots=True)
class Seen:
    """What a peer's breaker of the store was, and what the table said of the peers."""

    breakers: set[str] = field(default_factory=set)
    flags: set[str] = field(default_factory=set)


# What goes wrong.


@given("errors that are gone by the next attempt")
def errors_pass(story: Story) -> None:
    story.lasting = False


@given("errors that stay until somebody resolves them")
def errors_last(story: Story) -> None:
    story.lasting = True


@given("the functional container encounters an error during its operation")
def container_encounters_error(site: Site, client: Client, story: Story) -> None:
    begin_troubles(site, client, story, PULL, PUSH)
    client.wait(lambda: failing(site, client, story), "the first error")


@given(
    "the functional container is still functioning"
    " but has encountered an error during its operation"
)
def container_still_functions(site: Site, client: Client, story: Story) -> None:
    begin_troubles(site, client, story, PULL, TRANSCODE, PUSH)
    client.wait(lambda: failing(site, client, story), "the first error")
    for name in PEERS:
        site.machine.wait(partial(site.runs_as, name, story.pids[name]))


@when("the error is in pulling or pushing the video file")
@when("the functional container encounters an error during the pull, transcode, or push operation")
def error_in_each_operation(site: Site, client: Client, story: Story) -> None:
    stages = set(story.troubled)
    client.wait(lambda: failing(site, client, story) == stages, f"errors in all of {stages}")


def begin_troubles(site: Site, client: Client, story: Story, *stages: str) -> None:
    for stage in stages:
        story.troubled[stage] = client.submit(ask_with_trouble(site, client, stage))


def failing(site: Site, client: Client, story: Story) -> set[str]:
    """Which operations have failed; where errors pass, they now do."""
    failed = set()
    for stage, asked in story.troubled.items():
        if errors := client.events(asked, RETRY, ESCALATION):
            assert {error["data"]["stage"] for error in errors} == {stage}
            failed.add(stage)
            if not story.lasting:
                end_trouble(site, stage)
    return failed


# The retry counter, the threshold, and the delays.


@then(
    "upon encountering an error, the functional container logs the error message"
    " and increments the retry counter for the task"
)
def message_is_logged_and_counted(site: Site, client: Client, story: Story) -> None:
    for stage, asked in story.troubled.items():
        errors = client.events(asked, RETRY, ESCALATION)
        for number, error in enumerate(errors, start=1):
            assert error["data"]["code"] == CODES[stage]
            assert error["data"]["message"]
            assert error["data"]["failures"] == number
            assert error["container"] in site.containers
        assert client.part(asked)["failures"][stage] >= len(errors)


@then("the system checks the retry count against a predefined threshold")
@then(
    "the system checks the retry count against a predefined threshold"
    " to determine whether to retry the operation or escalate the issue"
)
def count_is_checked(client: Client, story: Story) -> None:
    """Below the threshold of the task's row there is a retry, and never a retry at it."""
    for asked in story.troubled.values():
        client.wait(partial(decided, client, story, asked), "the last decision")
        assert client.task(asked)["attempts_max"] == THRESHOLD
        for error in client.events(asked, RETRY, ESCALATION):
            assert error["data"]["attempts_max"] == THRESHOLD
            is_below = error["data"]["failures"] < THRESHOLD
            assert error["type"] == (RETRY if is_below else ESCALATION)


def decided(client: Client, story: Story, asked: Asked) -> list[Row]:
    return client.events(asked, ESCALATION if story.lasting else RETRY)


@then("if the retry count is below the threshold:")
def count_is_below(client: Client, story: Story) -> None:
    for asked in story.troubled.values():
        errors = client.events(asked, RETRY, ESCALATION)
        assert 1 <= len(errors) < THRESHOLD


@then(
    "if the retry count is below the threshold, the operation is retried with exponential backoff"
)
@then(
    "the system retries the operation after a brief delay"
    " to allow for potential transient issues to resolve"
)
def retried_with_backoff(client: Client, story: Story) -> None:
    for asked in story.troubled.values():
        check_backoff(client, asked)


def check_backoff(client: Client, asked: Asked) -> None:
    """After each error comes another attempt, not before its delay is over.

    The delay's upper bound doubles with every failure. The delays themselves are drawn from below
    that bound (full jitter), so one may well be shorter than the one before it.
    """
    retries = client.events(asked, RETRY)
    assert retries
    received = client.wait_for_events(asked, "TaskReceived", at_least=len(retries) + 1)
    for number, (retry, again) in enumerate(zip(retries, received[1:], strict=False), start=1):
        delay_s = retry["data"]["retry_in_s"]
        assert RETRY_BASE_S / 2 <= delay_s <= RETRY_BASE_S * 2 ** (number - 1)
        assert again["data"]["attempt"] == retry["data"]["attempt"] + 1
        assert again["at"] - retry["at"] >= timedelta(seconds=delay_s - ROUNDING_S)


@then("if the retry is successful, the task continues as normal")
def continues_as_normal(client: Client, story: Story) -> None:
    for asked in story.troubled.values():
        client.wait_for_state(asked, "done")
        assert client.events(asked, ESCALATION) == []
        assert [claim["outcome"] for claim in client.claims(asked)][-1] == "done"
        check_outputs(client, asked)


def check_outputs(client: Client, asked: Asked) -> None:
    """What is in the bucket is what the last attempt has committed, and nothing else."""
    outputs = client.outputs(asked)
    sizes = [
        (output["media"]["width"], output["media"]["height"])
        for output in outputs
        if output["kind"] == "rendition"
    ]
    assert sorted(sizes) == sorted((rung.width, rung.height) for rung in asked.ladder)
    client.wait(
        lambda: client.stored(asked) == {output["key"]: output["size"] for output in outputs},
        "only the outputs are left in the bucket",
    )


# Escalation.


@then("if the retry count exceeds the threshold:")
@then("if the retry count exceeds the threshold, the error is escalated")
def escalated_at_threshold(client: Client, story: Story) -> None:
    for stage, asked in story.troubled.items():
        client.wait_for_state(asked, "escalated")
        outcomes = [claim["outcome"] for claim in client.claims(asked)]
        assert outcomes == ["retry"] * (THRESHOLD - 1) + ["escalated"]
        assert client.part(asked)["failures"] == {stage: THRESHOLD}


@then("a ContainerErrorEscalation event is logged to the database")
def escalation_is_logged(site: Site, client: Client, story: Story) -> None:
    for stage, asked in story.troubled.items():
        (event,) = client.events(asked, ESCALATION)
        assert event["container"] in site.containers
        data = event["data"]
        assert (data["stage"], data["code"]) == (stage, CODES[stage])
        assert data["failures"] == data["attempts_max"] == THRESHOLD
        assert [each["attempt"] for each in data["story"]] == list(range(1, THRESHOLD + 1))
        assert {each["stage"] for each in data["story"]} == {stage}


@then(
    "the system escalates the issue to system administrators or designated personnel"
    " for manual intervention"
)
def administrators_are_told(site: Site, client: Client, story: Story) -> None:
    """By themselves, through the webhook; and whoever asks which tasks wait for a person."""
    for asked in story.troubled.values():
        client.wait(partial(told_of, site, asked), f"a notice of {asked.task_id}")
    waiting = escalations(site)
    for stage, asked in story.troubled.items():
        assert waiting[str(asked.task_id)]["stage"] == stage


def told_of(site: Site, asked: Asked) -> bool:
    said = json.dumps([posted.fields for posted in site.webhook.posted])
    return str(asked.task_id)[:8] in said


def escalations(site: Site) -> dict[str, Row]:
    """What `peerctl escalations` lists, by task."""
    listed = json.loads(site.machine.peerctl("escalations", "--json"))
    return {escalation["id"]: escalation for escalation in listed}


@then("system administrators investigate the root cause of the error")
def root_cause_is_found(site: Site, story: Story) -> None:
    """The list has the whole story of every task, and so has the task's own page."""
    waiting = escalations(site)
    for stage, asked in story.troubled.items():
        found = waiting[str(asked.task_id)]
        assert found["code"] == CODES[stage]
        assert {attempt["peer"] for attempt in found["story"]} <= set(PEERS)
        assert found["message"] in " ".join(site.machine.peerctl("task", found["id"]).split())


@then(
    "and take appropriate actions to resolve it, such as adjusting configurations,"
    " restarting the container, or reallocating resources"
)
def causes_are_removed(site: Site, story: Story) -> None:
    for stage in story.troubled:
        end_trouble(site, stage)
    site.restart_peer(PEERS[-1])


@then("system administrators investigate and resolve the issue")
def issue_is_resolved(site: Site, client: Client, story: Story) -> None:
    administrators_are_told(site, client, story)
    root_cause_is_found(site, story)
    for stage in story.troubled:
        end_trouble(site, stage)


@then("once resolved, the system updates the task status and resumes processing")
@then(
    "once the issue is resolved, the system updates the task status accordingly"
    " and resumes processing"
)
def processing_resumes(site: Site, client: Client, story: Story) -> None:
    for asked in story.troubled.values():
        answer = site.machine.peerctl("retry", str(asked.task_id), "--reason", REASON, "--json")
        assert json.loads(answer)["state"] in ("queued", "running", "done")
    for asked in story.troubled.values():
        client.wait_for_state(asked, "done")
        check_outputs(client, asked)
    assert not escalations(site).keys() & {str(asked.task_id) for asked in story.troubled.values()}


@then(
    "progress updates and status changes are logged to the database"
    " for monitoring and tracking purposes"
)
def changes_are_logged(client: Client, story: Story) -> None:
    """Every attempt with how far it came and how it ended, and what the person did, and why."""
    for stage, asked in story.troubled.items():
        claims = client.claims(asked)
        assert [claim["outcome"] for claim in claims] == [
            *["retry"] * (THRESHOLD - 1),
            "escalated",
            "done",
        ]
        for claim in claims[:-1]:
            assert claim["error"]["stage"] == stage
            assert claim["step"] == LAST_STEP[stage]
        assert claims[-1]["step"] == "finished"
        received = client.events(asked, "TaskReceived")
        assert [event["data"]["attempt"] for event in received] == list(range(1, THRESHOLD + 2))
        (intervention,) = client.select(
            "SELECT * FROM interventions WHERE task_id = %s", asked.task_id
        )
        assert (intervention["action"], intervention["reason"]) == ("retry", REASON)
        assert intervention["error"]["stage"] == stage


@then(
    "the system maintains reliability and availability"
    " by handling functional container errors gracefully"
)
def system_is_well(site: Site, client: Client, story: Story) -> None:
    """No peer has died of it, everybody takes work, and what was well has not suffered."""
    assert story.neighbour is not None
    client.wait_for_state(story.neighbour, "done")
    assert len(client.claims(story.neighbour)) == 1
    site.machine.wait(partial(site.runs_as, PEERS[0], story.pids[PEERS[0]]))
    for name in PEERS:
        site.machine.wait(partial(site.is_well, name))


@then("and ensuring timely resolution through retries and escalation procedures")
def nothing_is_left_over(site: Site, client: Client, story: Story) -> None:
    """A person was asked soon after the first error, all tasks are done, and no message is left."""
    for asked in story.troubled.values():
        first, *_, last = client.events(asked, RETRY, ESCALATION)
        assert last["type"] == ESCALATION
        assert last["at"] - first["at"] <= DELAYS_MAX + timedelta(seconds=ATTEMPTS_S)
        assert client.state(asked) == "done"
    site.wait_until_queue_is_empty()
    assert client.dead_messages() == 0


# The workflow's alternative flows.


@when("the object store dies before the video file is pulled, and is started again")
def store_dies(site: Site, client: Client, story: Story) -> None:
    story.asked = client.ask()
    client.put_video(story.asked)
    client.write_row(story.asked)
    site.s3.kill()
    client.publish(story.asked)
    client.wait_for_events(story.asked, RETRY)
    site.s3.start()


@then(
    "if the error is transient and resolves after a retry attempt,"
    " the system continues processing without escalation"
)
def processing_continues(site: Site, client: Client, story: Story) -> None:
    """The task, the one beside it, and, once all peers know that it is back, one more."""
    for name in PEERS:
        site.machine.wait(partial(site.is_well, name))
    afterwards = client.submit()
    assert story.neighbour is not None
    for asked in (story.task, story.neighbour, afterwards):
        client.wait_for_state(asked, "done")
        assert client.events(asked, ESCALATION) == []
        check_outputs(client, asked)
    for retry in client.events(story.task, RETRY):
        assert (retry["data"]["stage"], retry["data"]["code"]) == (PULL, "store_unavailable")
    check_backoff(client, story.task)
    site.wait_until_queue_is_empty()


@when("the object store answers every request for the video file with an error of its own")
def store_answers_errors(site: Site, client: Client, story: Story) -> None:
    asked = story.asked = client.ask()
    site.spoilers.add(PULL, lambda exchange: asked.key in exchange.target)
    site.answer_errors()
    client.submit(asked)


@then("if the error persists despite retry attempts,", target_fixture="seen")
def error_persists(site: Site, client: Client, story: Story) -> Seen:
    """Look at the breaker meanwhile, in the peers' own words and in the gossip table."""
    seen = Seen()

    def look() -> bool:
        for name in PEERS:
            seen.breakers.add(site.status(name).get("breakers", {}).get("store", "closed"))
            seen.flags.update(site.machine.row(PEERS[0], name).get("flags", ()))
        seen_both = "open" in seen.breakers and "store away" in seen.flags
        return seen_both and client.state(story.task) == "escalated"

    # The store goes on answering errors, so that nothing is missed by looking late.
    client.wait(look, "the escalation, an open breaker and its flag in the table")
    assert len(client.events(story.task, RETRY)) == THRESHOLD - 1
    return seen


@then("the system may implement additional measures, such as exponential backoff")
def there_is_backoff(client: Client, story: Story) -> None:
    check_backoff(client, story.task)


@then("or circuit breaker strategies,")
def there_is_a_breaker(seen: Seen) -> None:
    """It was open while the task was still tried, and everybody could see that."""
    assert "open" in seen.breakers
    assert "store away" in seen.flags


@then("before escalating the issue")
def escalated_in_the_end(site: Site, client: Client, story: Story) -> None:
    (escalation,) = client.events(story.task, ESCALATION)
    assert escalation["data"]["code"] == "store_unavailable"
    assert escalation["data"]["failures"] == THRESHOLD
    assert str(story.task.task_id) in escalations(site)
    client.wait(lambda: told_of(site, story.task), "a notice of it")
    # What is not about that one video goes on.
    assert story.neighbour is not None
    client.wait_for_state(story.neighbour, "done")
