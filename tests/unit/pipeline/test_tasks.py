"""The transition table, pair by pair, and what a person sees of it."""

from __future__ import annotations

import itertools
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.tasks import (
    STEP_EVENTS,
    TRANSITIONS,
    Action,
    Claim,
    PartState,
    Step,
    TaskState,
    task_state,
)

# Written out on purpose: a change to the rules must be made twice, once here.
EXPECTED = """
             claim    finish retry   hand_back expire  escalate   cancel     resume
queued       claimed  .      .       .         .       .          cancelled  .
claimed      .        done   queued  queued    queued  escalated  cancelled  .
done         .        .      .       .         .       .          .          .
escalated    .        .      .       .         .       .          cancelled  queued
cancelled    .        .      .       .         .       .          .          queued
"""


def _expected() -> dict[tuple[PartState, Action], PartState | None]:
    heading, *rows = EXPECTED.strip().splitlines()
    actions = [Action(word) for word in heading.split()]
    table: dict[tuple[PartState, Action], PartState | None] = {}
    for row in rows:
        before, *cells = row.split()
        for action, cell in zip(actions, cells, strict=True):
            table[PartState(before), action] = None if cell == "." else PartState(cell)
    return table


@pytest.mark.parametrize(
    ("before", "action"), list(itertools.product(PartState, Action)), ids="-".join
)
def test_every_pair_of_state_and_action_is_allowed_or_refused(
    before: PartState, action: Action
) -> None:
    """Every pair leads where the table in this file says, and no other pair is allowed."""
    assert TRANSITIONS.get((before, action)) == _expected()[before, action]


def test_no_task_can_get_stuck() -> None:
    """From every state but the final one, `done` can still be reached."""
    for state in PartState:
        reached = {state}
        for _ in PartState:
            reached |= {after for (before, _), after in TRANSITIONS.items() if before in reached}
        assert PartState.DONE in reached, f"nothing leads from {state} to done"


def test_only_a_claim_leads_to_outputs() -> None:
    """`done` is reached from `claimed` alone: nobody commits what nobody holds."""
    assert {before for (before, _), after in TRANSITIONS.items() if after is PartState.DONE} == {
        PartState.CLAIMED
    }


@pytest.mark.parametrize(
    ("parts", "seen"),
    [
        ("queued", TaskState.QUEUED),
        ("claimed", TaskState.RUNNING),
        ("done", TaskState.DONE),
        ("escalated", TaskState.ESCALATED),
        ("cancelled", TaskState.CANCELLED),
        ("queued claimed", TaskState.RUNNING),
        ("done claimed", TaskState.RUNNING),
        ("done queued", TaskState.QUEUED),
        ("done done", TaskState.DONE),
        ("done escalated", TaskState.ESCALATED),
        ("claimed escalated", TaskState.ESCALATED),
        ("escalated cancelled", TaskState.CANCELLED),
        ("done claimed queued cancelled", TaskState.CANCELLED),
        ("", TaskState.QUEUED),
    ],
)
def test_what_is_seen_of_a_task_follows_from_its_parts(parts: str, seen: TaskState) -> None:
    """One stopped part stops the task; otherwise work counts before waiting."""
    states = {number: PartState(word) for number, word in enumerate(parts.split())}
    assert task_state(states) is seen


@given(st.data())
def test_the_order_of_parts_does_not_matter(data: st.DataObject) -> None:
    """What is seen depends on which states there are, and not on which part is in which."""
    states = data.draw(st.lists(st.sampled_from(PartState), min_size=1, max_size=6))
    shuffled = data.draw(st.permutations(states))
    assert task_state(dict(enumerate(states))) is task_state(dict(enumerate(shuffled)))


def test_every_step_has_its_event() -> None:
    """The steps, in their order, and the events that the specification names for them."""
    assert list(STEP_EVENTS) == list(Step)
    assert list(STEP_EVENTS.values()) == [
        "TaskReceived",
        "TaskDetailsRetrieved",
        "VideoFilePulled",
        "WorkloadProcessingStarted",
        "VideoTranscoded",
        "TranscodedVideoUploaded",
        "WorkloadProcessingFinished",
    ]


def test_no_two_attempts_share_a_prefix() -> None:
    """Outputs of one attempt never lie where another attempt's lie."""
    claims = [
        Claim(task_id=UUID(int=task), part=part, attempt=attempt, token=UUID(int=9), lease_s=15)
        for task, part, attempt in itertools.product((1, 2), (0, 1), (1, 11))
    ]
    prefixes = [claim.prefix + "/" for claim in claims]
    for one, other in itertools.permutations(prefixes, 2):
        assert not one.startswith(other)
