"""That an answer counts once, soon, and only if it was asked for."""

from __future__ import annotations

import random

from membership.questions import Purpose, Question, Questions


def test_an_answer_counts_once() -> None:
    """The second one with the same nonce is a recording."""
    questions = Questions(random.Random(1), open_s=5.0)
    question = Question(Purpose.VERIFY, 0.0, uid=7)
    nonce = questions.ask(question)
    assert questions.answer(1.0, nonce) == question
    assert questions.answer(1.0, nonce) is None


def test_a_late_answer_and_a_strange_one_do_not_count() -> None:
    """What was asked long ago was asked in another situation."""
    questions = Questions(random.Random(1), open_s=5.0)
    nonce = questions.ask(Question(Purpose.PROBE, 0.0, uid=7))
    assert questions.answer(5.1, nonce) is None
    assert questions.answer(0.0, 12345) is None


def test_open_questions_are_bounded_and_forgotten() -> None:
    """The oldest go first, so that a flood of questions costs no memory."""
    questions = Questions(random.Random(1), open_s=5.0)
    nonces = [
        questions.ask(Question(Purpose.VERIFY, number / 1000, uid=number))
        for number in range(Questions.OPEN_MAX + 1)
    ]
    assert questions.answer(4.2, nonces[0]) is None
    assert questions.answer(4.2, nonces[1]) is not None
    questions.forget(60.0)
    assert all(questions.answer(4.2, nonce) is None for nonce in nonces)
