"""The wake-up message: what it looks like, and that foreign bytes raise one exception only."""

from __future__ import annotations

import contextlib
import json
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import BadMessage
from pipeline.media.ladder import parse_ladder
from pipeline.messages import BYTES_MAX, WakeUp, decode_untrusted, encode
from pipeline.ports import Submission
from pipeline.tasks import Priority, Strictness

_TASK_FIELDS = ["source", "ladder", "title", "strictness", "priority", "attempts_max"]
TASK = UUID("0b8f3c1e-7c1d-4a3e-9b52-6f3f5b1c2d4e")


def test_the_first_part_goes_without_saying() -> None:
    """The usual message is as small as the specification has it: a version and a task id."""
    assert encode(WakeUp(task_id=TASK)) == b'{"v":1,"task_id":"%s"}' % str(TASK).encode()


@given(st.uuids(), st.integers(0, 999_999))
def test_what_is_encoded_is_decoded(task_id: UUID, part: int) -> None:
    """Nothing is lost on the way."""
    wake_up = WakeUp(task_id=task_id, part=part)
    assert decode_untrusted(encode(wake_up)) == wake_up


@pytest.mark.parametrize(
    "body",
    [
        b'{"task_id": "%s"}' % str(TASK).encode(),
        b'{"task_id": "%s", "v": 1, "part": 0}' % str(TASK).encode(),
        b'\n {"task_id": "%s"}\n' % str(TASK).upper().encode(),
    ],
)
def test_takes_what_a_client_may_reasonably_send(body: bytes) -> None:
    """The version may be left out, and so may the first part."""
    assert decode_untrusted(body) == WakeUp(task_id=TASK)


def whole(**task: object) -> bytes:
    """A message with a whole task."""
    fields = {"source": "s3://uploads/summer/clip.mp4", "ladder": "web", **task}
    return json.dumps({"v": 1, "task_id": str(TASK), "task": fields}).encode()


def test_a_whole_task_with_nothing_but_what_it_needs() -> None:
    """The rest is filled in: the file's name, the message's own priority, the peer's threshold."""
    wake_up = decode_untrusted(whole(), priority=Priority.LOW, attempts_max=7)
    assert wake_up == WakeUp(
        task_id=TASK,
        submission=Submission(
            task_id=TASK,
            source="s3://uploads/summer/clip.mp4",
            title="clip.mp4",
            ladder=parse_ladder("web"),
            strictness=Strictness.STRICT,
            priority=Priority.LOW,
            attempts_max=7,
        ),
    )


def test_a_whole_task_that_says_everything() -> None:
    """What it says itself counts."""
    body = whole(
        source="sources/a.mkv",
        ladder="hls:640x360@800k",
        title="Summer",
        strictness="lenient",
        priority="high",
        attempts_max=2,
    )
    assert decode_untrusted(body, priority=Priority.LOW).submission == Submission(
        task_id=TASK,
        source="sources/a.mkv",
        title="Summer",
        ladder=parse_ladder("hls:640x360@800k"),
        strictness=Strictness.LENIENT,
        priority=Priority.HIGH,
        attempts_max=2,
    )


def test_a_wake_up_for_others_is_small() -> None:
    """Once a peer wakes another one the task's row exists; the task is not sent again."""
    assert encode(decode_untrusted(whole())) == encode(WakeUp(task_id=TASK))


ID = f'"task_id": "{TASK}"'.encode()


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\x00\xfe", "not JSON"),
        (b"1" * 5000, "not JSON"),
        (b"[" * 60_000, "not JSON"),
        (b"null", "not a JSON object"),
        (b'"text"', "not a JSON object"),
        (b"[1]", "not a JSON object"),
        (b"{}", 'no "task_id"'),
        (b'{"v": 1}', 'no "task_id"'),
        (b'{"task_id": 7}', 'no "task_id"'),
        (b'{"task_id": "seven"}', "not a UUID"),
        (b'{"task_id": "\\ud800"}', "not a UUID"),
        (b'{"task_id": "%s\\n"}' % str(TASK).encode(), "not a UUID"),
        (b'{"task_id": "{%s}"}' % str(TASK).encode(), "not a UUID"),
        (b'{"v": 2, "task_id": "x"}', "version 2 is unknown"),
        (b'{"v": "1", "task_id": "x"}', "version '1' is unknown"),
        (b'{"v": true, "task_id": "x"}', "version True is unknown"),
        (b'{"v": NaN, "task_id": "x"}', "version nan is unknown"),
        (b'{"v": null, "task_id": "x"}', "version None is unknown"),
        (b'{%s, "prat": 1}' % ID, "field 'prat', .* did you mean \"part\"?"),
        (b'{%s, "sender": "me"}' % ID, "field 'sender', which version 1 does not know$"),
        (b'{%s, "task": {}, "part": 0}' % ID, "a whole task has no parts"),
        (b'{%s, "task": null}' % ID, '"task" is not a JSON object'),
        (whole(prority="high"), "field 'prority', .* did you mean \"priority\"?"),
        (whole(priority="hihg"), '"priority" \'hihg\' is unknown; did you mean "high"?'),
        (whole(priority=3), '"priority" 3 is unknown'),
        (whole(priority=None), '"priority" None is unknown'),
        (whole(strictness="loose"), r"\(strict, lenient\)"),
        (whole(source=None), '"source" None is not a text'),
        (whole(source=""), "not a text of 1 to 1100 characters"),
        (whole(source="/etc/passwd"), "leave it away"),
        (whole(source="http://example.org/a.mp4"), "neither s3://bucket/key nor a key"),
        (whole(source="s3://bucket"), "neither s3://bucket/key nor a key"),
        (whole(source="a\nb"), "has a control character"),
        (whole(source="a\ud800"), "is not valid Unicode"),
        (whole(title="x" * 201), "not a text of 1 to 200 characters"),
        (whole(title=None), '"title" None is not a text'),
        (whole(ladder="wbe"), "\"ladder\": ladder 'wbe' is unknown"),
        (whole(ladder="1x1@800k"), '"ladder": rung 1x1: each side must be 16'),
        (whole(ladder=["web"]), '"ladder" .* is not a text'),
        (whole(attempts_max=0), '"attempts_max" 0 is not a whole number from 1 to 100'),
        (whole(attempts_max=2.0), "is not a whole number"),
        (b'{%s, "task": {"ladder": "web"}}' % ID, '"task" has no "source"'),
        (b'{%s, "task": {"source": "a"}}' % ID, '"task" has no "ladder"'),
        (b" " * (BYTES_MAX + 1), "is the limit"),
    ],
)
def test_says_what_is_wrong(body: bytes, cause: str) -> None:
    """Each kind of bad message is refused with its cause, for whoever finds it set aside."""
    with pytest.raises(BadMessage, match=cause) as caught:
        decode_untrusted(body)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("part", ["-1", "1000000", "1.0", "true", '"0"', "null", "[]", "1e400"])
def test_refuses_what_is_no_part_number(part: str) -> None:
    """A part is a small whole number, and nothing that merely looks like one."""
    body = f'{{"task_id": "{TASK}", "part": {part}}}'.encode()
    with pytest.raises(BadMessage, match=r'"part" .* is not a whole number'):
        decode_untrusted(body)


@pytest.mark.parametrize("depth", [10, 900, 990, 1000, 5000])
@pytest.mark.parametrize("name", ["v", "task_id", "part", "task"])
def test_depth_is_no_weapon(name: str, depth: int) -> None:
    """A message nested to any depth is refused like any other, and quoted briefly."""
    fields = json.dumps({"v": 1, "task_id": str(TASK)})[:-1]
    body = f'{fields}, "{name}": {"[" * depth}{"]" * depth}}}'.encode()
    with pytest.raises(BadMessage) as caught:
        decode_untrusted(body)
    assert len(str(caught.value)) < 200


def test_quotes_a_long_value_briefly() -> None:
    """The reason goes into a header and a log line, so it stays one line."""
    bodies = [
        json.dumps({"task_id": "x" * 60_000}).encode(),
        json.dumps({"task_id": str(TASK), "x" * 60_000: 1}).encode(),
        whole(ladder="x" * 900),
        whole(source="s3://" + "x" * 900),
    ]
    for body in bodies:
        with pytest.raises(BadMessage) as caught:
            decode_untrusted(body)
        assert len(str(caught.value)) < 200


@given(st.binary(max_size=300))
def test_random_bytes_raise_nothing_else(body: bytes) -> None:
    """Whatever arrives: a wake-up, or BadMessage."""
    _decode_or_refuse(body)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
_fields = st.fixed_dictionaries(
    {},
    optional={
        "v": _json,
        "task_id": st.uuids().map(str) | _json,
        "part": _json,
        "task": st.fixed_dictionaries({}, optional=dict.fromkeys(_TASK_FIELDS, _json)) | _json,
    },
)


@given(_fields | _json, st.sampled_from(["utf-8", "utf-16", "utf-32"]))
def test_json_of_any_shape_raises_nothing_else(fields: object, encoding: str) -> None:
    """Also where it is JSON, with the right names and anything under them."""
    _decode_or_refuse(json.dumps(fields).encode(encoding))


@given(st.uuids(), st.data())
def test_one_flipped_byte_raises_nothing_else(task_id: UUID, data: st.DataObject) -> None:
    """Also where it is nearly right."""
    body = bytearray(encode(WakeUp(task_id=task_id, part=3)))
    body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    _decode_or_refuse(bytes(body))


def _decode_or_refuse(body: bytes) -> None:
    with contextlib.suppress(BadMessage):
        assert 0 <= decode_untrusted(body).part < 1_000_000
