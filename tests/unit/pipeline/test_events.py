"""The pipeline's events and errors: values that can be written down and read again."""

from __future__ import annotations

import dataclasses
import typing
from datetime import UTC, datetime
from uuid import UUID

import msgspec
import pytest

from pipeline import errors
from pipeline.events import ContainerErrorRetry, PipelineEvent, Record, Stamp, TaskReceived
from pipeline.tasks import STEP_EVENTS

EVENTS = typing.get_args(PipelineEvent)
TASK = UUID(int=1)


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.__name__)
def test_an_event_is_a_frozen_fact_named_after_itself(event: type) -> None:
    """Frozen, slotted, by keyword only; `kind` is the name that people search logs for."""
    parameters = event.__dataclass_params__  # type: ignore[attr-defined]  # every dataclass has it
    assert parameters.frozen
    assert all(field.kw_only for field in dataclasses.fields(event))
    assert "__slots__" in vars(event)
    assert event.kind == event.__name__  # type: ignore[attr-defined]  # Recordable, seen as a type


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.__name__)
def test_every_event_of_the_pipeline_belongs_to_a_task_and_part(event: type) -> None:
    """The ledger files each under its task and part, so each must name them."""
    names = [field.name for field in dataclasses.fields(event)]
    assert names[:2] == ["task_id", "part"]


def test_every_step_is_told_by_an_event_of_the_pipeline() -> None:
    """A step whose event does not exist could never be written."""
    assert set(STEP_EVENTS.values()) <= {event.kind for event in EVENTS}


def test_events_become_json_rows() -> None:
    """Every field survives the way into a row's JSON, with the ids as text."""
    event = ContainerErrorRetry(
        task_id=TASK,
        attempt=2,
        stage="pull",
        code="no_such_object",
        message="The source is not there.",
        failures=1,
        attempts_max=4,
        retry_in_s=1.5,
    )
    data = msgspec.to_builtins(event)
    assert data["task_id"] == str(TASK)
    assert set(data) == {field.name for field in dataclasses.fields(event)}


def test_a_record_cannot_be_changed() -> None:
    """An envelope is made once per fact; a repeat must carry the very same stamp."""
    stamp = Stamp(
        peer_uid="0" * 16, epoch=1, sequence=1, container="pid:1", node="n", at=datetime.now(UTC)
    )
    record = Record(stamp=stamp, event=TaskReceived(task_id=TASK, attempt=1))
    with pytest.raises(dataclasses.FrozenInstanceError):
        record.stamp = stamp  # type: ignore[misc]  # the point of the test


@pytest.mark.parametrize(
    ("error", "stage", "permanent"),
    [
        (errors.SourceRejected("No.", code="c"), errors.Stage.TRANSCODE, True),
        (errors.PullFailed("No.", code="c"), errors.Stage.PULL, False),
        (errors.PullFailed("No.", code="c", permanent=True), errors.Stage.PULL, True),
        (errors.TranscodeFailed("No.", code="c"), errors.Stage.TRANSCODE, False),
        (errors.PushFailed("No.", code="c"), errors.Stage.PUSH, False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_failed_step_says_where_and_whether_for_good(
    error: errors.StepError, stage: errors.Stage, permanent: bool
) -> None:
    """Each kind of failure is counted against its own stage, and only some are for good."""
    assert (error.stage, error.permanent) == (stage, permanent)
    assert str(error) == error.message == "No."


@pytest.mark.parametrize(
    ("error", "dependency"),
    [
        (errors.LedgerUnavailable, "ledger"),
        (errors.QueueUnavailable, "queue"),
        (errors.StoreUnavailable, "store"),
    ],
)
def test_an_absent_dependency_is_named(error: type[errors.Unavailable], dependency: str) -> None:
    """Whoever waits for it can say for what, and knows whether the call may have happened."""
    assert error.dependency == dependency
    assert error("gone", definite=False).definite is False


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    """Every error of the module is drawn in its docstring, and everything drawn exists."""
    drawn = {
        word
        for line in (errors.__doc__ or "").splitlines()
        for word in line.replace("├──", " ").replace("└──", " ").replace("│", " ").split()[:1]
        if line.startswith("    ")
    }
    defined = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.PipelineError)
    }
    assert drawn == defined
