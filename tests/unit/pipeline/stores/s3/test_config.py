"""The settings of a store on S3, and where its credentials come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.stores.s3.config import S3Config, is_bucket_name
from pipeline.stores.s3.content_types import content_type
from pipeline.stores.s3.credentials import find_credentials


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"endpoint": "minio:9000"}, "must be https://host"),
        ({"endpoint": "ftp://minio"}, "must be https://host"),
        ({"endpoint": "http://minio:port"}, "is no URL"),
        ({"endpoint": "http://me:secret@minio"}, "must not hold credentials"),
        ({"endpoint": "http://minio/bucket"}, "must end after the host"),
        ({"bucket": "no"}, "is no name of a bucket"),
        ({"bucket": "192.168.1.1"}, "is no name of a bucket"),
        ({"prefix": "a//b"}, "prefix: .*a segment is empty"),
        ({"region": "eu north"}, "must be a word such as us-east-1"),
        ({"style": "dns"}, "must be auto, path or virtual"),
        ({"access_key": "me"}, "go together"),
        ({"secret_key": "me"}, "go together"),
        ({"session_token": "me"}, "needs access_key"),
        (
            {"access_key": "me", "secret_key": "mine", "credentials_file": Path("x")},
            "exclude each other",
        ),
        ({"part_bytes": 1024}, "part_bytes must be 5242880 to"),
        ({"parallel_parts": 0}, "parallel_parts must be 1 to 32"),
        ({"connections": 0}, "connections must be 1 to 256"),
        ({"connect_timeout_s": 0}, "connect_timeout_s must be"),
        ({"read_timeout_s": float("nan")}, "read_timeout_s must be"),
    ],
)
def test_mistakes(settings: dict[str, Any], sentence: str) -> None:
    """Every mistake is told at once, with the setting's name and what would be right."""
    with pytest.raises(ValueError, match=f"^store.s3: .*{sentence}"):
        S3Config(**settings)


def test_secrets_are_not_shown() -> None:
    """Nothing that is printed for people holds a secret."""
    config = S3Config(access_key="who", secret_key="what", session_token="then")

    assert not any(secret in repr(config) for secret in ("who", "what", "then"))


@pytest.mark.parametrize(
    ("name", "good"),
    [("films", True), ("a.b-c", True), ("ab", False), ("a..b", False), ("-ab", False), ("a/b", 0)],
)
def test_bucket_names(name: str, good: bool) -> None:
    """Those that every server takes."""
    assert is_bucket_name(name) == good


FILE = "[default]\naws_access_key_id = filed\naws_secret_access_key = s\n" + (
    "[lab]\naws_access_key_id = lab\naws_secret_access_key = s\naws_session_token = t\n"
)
ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "set", "AWS_SECRET_ACCESS_KEY": "s"}


@pytest.mark.parametrize(
    ("settings", "environment", "found"),
    [
        ({"access_key": "told", "secret_key": "s"}, ENVIRONMENT, ("told", None)),
        ({"credentials_file": "FILE"}, ENVIRONMENT, ("filed", None)),
        ({"credentials_file": "FILE", "profile": "lab"}, {}, ("lab", "t")),
        ({}, {**ENVIRONMENT, "AWS_SESSION_TOKEN": "token"}, ("set", "token")),
        ({}, {"AWS_SHARED_CREDENTIALS_FILE": "FILE"}, ("filed", None)),
        ({}, {"AWS_SHARED_CREDENTIALS_FILE": "FILE", "AWS_PROFILE": "lab"}, ("lab", "t")),
    ],
)
def test_credentials(
    settings: dict[str, Any],
    environment: dict[str, str],
    found: tuple[str, str | None],
    tmp_path: Path,
) -> None:
    """What is set counts more than the file that is named, and that more than the environment."""
    file = tmp_path / "credentials"
    file.write_text(FILE)
    settings = {name: file if value == "FILE" else value for name, value in settings.items()}
    environment = {
        name: str(file) if value == "FILE" else value for name, value in environment.items()
    }
    credentials = find_credentials(S3Config(**settings), environment).retrieve()

    assert (credentials.access_key, credentials.session_token) == found


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({}, "has no credentials; set access_key and secret_key, or"),
        ({"AWS_ACCESS_KEY_ID": "set"}, "AWS_SECRET_ACCESS_KEY is not; set both"),
    ],
)
def test_no_credentials(environment: dict[str, str], sentence: str) -> None:
    """It is told when the store is made, with every place where they may be."""
    with pytest.raises(ValueError, match=sentence):
        find_credentials(S3Config(), environment)


@pytest.mark.parametrize(
    ("key", "type"),
    [
        ("hls/master.m3u8", "application/vnd.apple.mpegurl"),
        ("a/720p.MP4", "video/mp4"),
        ("sources/film", "application/octet-stream"),
    ],
)
def test_content_types(key: str, type: str) -> None:
    """By the ending, whatever the machine's own tables say."""
    assert content_type(key) == type
