"""The message's JSON Schema and its decoder say the same, so that a client may trust either."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from pipeline.errors import BadMessage, BadRequest
from pipeline.media.ladder import PRESETS, parse_ladder
from pipeline.messages import decode_untrusted
from pipeline.tasks import Priority, Strictness

SCHEMA: dict[str, Any] = json.loads(files("pipeline").joinpath("message.schema.json").read_text())
VALIDATOR = Draft202012Validator(SCHEMA)
TASK = SCHEMA["$defs"]["task"]["properties"]


def decodes(message: object) -> bool:
    try:
        decode_untrusted(json.dumps(message).encode())
    except BadMessage:
        return False
    return True


SPACE = st.sampled_from(["", "", "", " ", "\t", "\xa0", "  "])
RUNG = st.builds(
    "{}{}x{}@{}{}{}".format,
    SPACE,
    st.integers(0, 9000) | st.sampled_from([16, 640, 854]),
    st.integers(0, 9000) | st.sampled_from([16, 360, 480]),
    st.sampled_from(["800", "2.5", "0.1", "5000000", "1.", ".5", "12345678901"]),
    st.sampled_from(["k", "K", "M", "", "g"]),
    SPACE,
)
LADDER = st.builds(
    "{}{}{}{}".format,
    SPACE,
    st.sampled_from(["", "", "hls:", "mp4:", "HLS:", ":", "dash:"]),
    st.lists(RUNG, min_size=1, max_size=13).map(",".join) | st.sampled_from(["web", "hls", "wbe"]),
    SPACE,
)
SOURCE = st.builds(
    "{}{}".format,
    st.sampled_from(["", "", "s3://bucket/", "s3://b/", "s3://bucket", "/", "http://h/", "s3:///"]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
    | st.sampled_from(["a/b.mp4", "a\n", "é" * 1090, "x" * 1100, "://"]),
)
WRONG = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9)
WORD = st.sampled_from([*Priority, *Strictness, "High", "", "urgent"])
NUMBER = st.integers(-1, 101) | st.sampled_from([999_999, 1_000_000])
PART = {"part": NUMBER | WRONG}
WHOLE = {
    "task": st.fixed_dictionaries(
        {"source": SOURCE, "ladder": st.just("web") | LADDER},
        optional={
            "title": st.text(st.characters(exclude_categories=["Cs"]), max_size=210),
            "strictness": WORD | WRONG,
            "priority": WORD | WRONG,
            "attempts_max": NUMBER | WRONG,
            "prority": WRONG,
        },
    )
    | st.dictionaries(st.sampled_from(["source", "ladder"]), WRONG)
    | WRONG
}
ID = st.uuids().map(str) | st.uuids().map(lambda uuid: str(uuid).upper())
BAD_ID = st.sampled_from(["", "x", "0b8f3c1e7c1d4a3e9b526f3f5b1c2d4e", None, 7])
MESSAGE = st.builds(
    lambda required, more: {**required, **more},
    st.fixed_dictionaries({"task_id": ID}) | st.fixed_dictionaries({"task_id": BAD_ID}),
    st.fixed_dictionaries({}, optional={"v": st.sampled_from([1, 1, 2, "1", True]), **PART})
    | st.fixed_dictionaries({}, optional={"v": st.just(1), **WHOLE})
    | st.fixed_dictionaries({}, optional={"parts": WRONG, **PART, **WHOLE}),
)
GOOD_RUNG = st.sampled_from([" 640x360@800k", "1280x720@2.5M ", "854x480@1400000"])
GOOD_LADDER = st.builds(
    "{}{}".format,
    st.sampled_from(["", "hls:", "mp4: "]),
    st.lists(GOOD_RUNG, min_size=1, max_size=13).map(",".join),
)
NEARLY_GOOD_WHOLE = st.fixed_dictionaries(
    {
        "task_id": ID,
        "task": st.fixed_dictionaries(
            {"source": SOURCE | st.just("a/b.mp4"), "ladder": GOOD_LADDER | GOOD_LADDER | LADDER},
            optional={
                "priority": st.sampled_from(list(Priority)),
                "attempts_max": st.integers(0, 101),
            },
        ),
    }
)


def has_a_fraction(value: object) -> bool:
    """JSON Schema takes 1.0 for a whole number; the decoder wants it written as one."""
    if isinstance(value, dict):
        return any(has_a_fraction(item) for item in value.values())
    return isinstance(value, float)


def ladder_out_of_bounds(message: Any) -> bool:
    """Sizes and bitrates have bounds that a pattern cannot say."""
    task = message.get("task")
    if not isinstance(task, dict) or not isinstance(task.get("ladder"), str):
        return False
    try:
        parse_ladder(task["ladder"])
    except BadRequest as error:
        return "must be 16 to" in str(error) or "is not between" in str(error)
    return False


@settings(max_examples=500)
@given(MESSAGE | NEARLY_GOOD_WHOLE)
def test_the_schema_and_the_decoder_agree(message: dict[str, Any]) -> None:
    """What one takes the other takes, but for the limits that the schema's description names."""
    assume(not has_a_fraction(message))
    is_valid = VALIDATOR.is_valid(message)
    assert is_valid or not decodes(message), "the decoder takes what the schema refuses"
    if not ladder_out_of_bounds(message):
        assert decodes(message) == is_valid


def test_the_schema_is_one() -> None:
    """It keeps to the draft that it names."""
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("name", ["source", "ladder"])
def test_its_examples_are_taken(name: str) -> None:
    """What the schema shows can be sent."""
    for example in TASK[name]["examples"]:
        task = {"source": "a", "ladder": "web", name: example}
        message = {"v": 1, "task_id": "0b8f3c1e-7c1d-4a3e-9b52-6f3f5b1c2d4e", "task": task}
        assert VALIDATOR.is_valid(message)
        assert decodes(message)


def test_it_lists_what_there_is() -> None:
    """A new priority, strictness or preset must be named here too."""
    assert TASK["priority"]["enum"] == list(Priority)
    assert TASK["strictness"]["enum"] == list(Strictness)
    pattern = TASK["ladder"]["pattern"]
    assert pattern.startswith("^\\s*(" + "|".join(PRESETS) + "|")
    assert all(parse_ladder(preset) for preset in PRESETS)
