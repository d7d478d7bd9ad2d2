"""Messages that came before their task: one second look, and no loop."""

from __future__ import annotations

from uuid import UUID

from pipeline.early import FORGET_S, SECOND_LOOK_S, TASKS_MAX, Early


def test_one_second_look() -> None:
    """The client's commit may be on its way; after that it is not."""
    early, task = Early(), UUID(int=1)
    assert early.deserves_second_look(task, 0, 0.0)
    assert not early.deserves_second_look(task, 0, SECOND_LOOK_S)


def test_each_part_has_its_own() -> None:
    """They are different messages."""
    early, task = Early(), UUID(int=1)
    assert early.deserves_second_look(task, 0, 0.0)
    assert early.deserves_second_look(task, 1, 0.0)


def test_a_later_message_is_another_one() -> None:
    """It gets its own second look: a minute ago some other message was meant."""
    early, task = Early(), UUID(int=1)
    assert early.deserves_second_look(task, 0, 0.0)
    assert early.deserves_second_look(task, 0, FORGET_S + 1)


def test_a_flood_is_set_aside_at_once() -> None:
    """Memory is bounded, and what is not remembered must not come round for ever."""
    early = Early()
    looks = [early.deserves_second_look(UUID(int=n), 0, 0.0) for n in range(TASKS_MAX + 10)]
    assert looks == [True] * TASKS_MAX + [False] * 10
