"""What goes wrong with a store, in words."""

from __future__ import annotations

import http.client
import inspect
from xml.etree.ElementTree import ParseError

import minio.error
import pytest
import urllib3

from pipeline.stores.s3.config import S3Config
from pipeline.stores.s3.credentials import find_credentials
from pipeline.stores.s3.problems import Lost, Problem, Refused, element, refusal, sentence
from pipeline.stores.s3.wire import Wire

ENDPOINT = "http://store:9000"
CONFIG = S3Config(endpoint=ENDPOINT, access_key="who", secret_key="what")
LIBRARY_ERRORS = [
    # Two of them want more than a word.
    urllib3.exceptions.IncompleteRead(1, 2)
    if issubclass(kind, http.client.IncompleteRead)
    else kind.__new__(kind, "why")
    for _, kind in inspect.getmembers(urllib3.exceptions, inspect.isclass)
    if issubclass(kind, urllib3.exceptions.HTTPError)
]


def translate(error: Exception) -> Problem:
    """What the store makes of a library's error."""
    wire = Wire(CONFIG, find_credentials(CONFIG, {}))
    with pytest.raises(Problem) as problem, wire.translated():
        raise error
    wire.close()
    return problem.value


@pytest.mark.parametrize("error", LIBRARY_ERRORS, ids=lambda error: type(error).__name__)
def test_no_http_error_is_left(error: Exception) -> None:
    """Whatever urllib3 raises is a lost line, in one sentence that names the store."""
    lost = translate(error)

    assert isinstance(lost, Lost)
    assert lost.passing
    assert ENDPOINT in str(lost)


def test_minio_errors() -> None:
    """Its client's errors keep their code; what is no S3 at all may pass."""
    response = urllib3.HTTPResponse(status=403, headers={"X-Amz-Bucket-Region": "eu-north-1"})
    told = minio.error.S3Error(response, "AccessDenied", "no", None, None, None)
    for error, status, code, passing in (
        (told, 403, "AccessDenied", False),
        (minio.error.ServerError("down", 503), 503, "HTTP503", True),
        (minio.error.InvalidResponseError(200, "text/html", "<p>"), 502, "NotS3", True),
        (ParseError("no XML"), 502, "NotS3", True),
        (minio.error.MinioException("other"), 500, "MinioException", True),
    ):
        problem = translate(error)
        assert isinstance(problem, Refused)
        assert (problem.status, problem.code, problem.passing) == (status, code, passing)


@pytest.mark.parametrize(
    ("status", "body", "code", "passing"),
    [
        (404, b"<Error><Code>NoSuchKey</Code></Error>", "NoSuchKey", False),
        (404, b"", "NoSuchKey", False),
        (403, b"<html>forbidden</html>", "AccessDenied", False),
        (500, b"<Error><Code>InternalError</Code></Error>", "InternalError", True),
        (503, b"", "HTTP503", True),
        (429, b"<Error><Code>TooManyRequests</Code></Error>", "TooManyRequests", True),
        (501, b"<Error><Code>NotImplemented</Code></Error>", "NotImplemented", False),
        (400, b"<Error><Code>RequestTimeout</Code></Error>", "RequestTimeout", True),
        (400, b"<Error><Code>XAmzContentSHA256Mismatch</Code></Error>", None, True),
        (507, b"<Error><Code>XMinioStorageFull</Code></Error>", "XMinioStorageFull", False),
    ],
)
def test_refusals(status: int, body: bytes, code: str | None, passing: bool) -> None:
    """The code comes from the body, else from the status; the store's own errors may pass."""
    refused = refusal(status, {}, body)

    assert refused.code == (code or "XAmzContentSHA256Mismatch")
    assert refused.passing == passing
    assert refused.mismatch == (code is None)


def test_elements() -> None:
    """The first of a name, unescaped; what is no XML has none."""
    assert element(b"<a><Key>x &amp; y</Key><Key>z</Key></a>", "Key") == "x & y"
    assert element(b"\xff\xfe<Key>", "Key") == ""
    assert element(b"", "Key") == ""


@pytest.mark.parametrize(
    ("refused", "said"),
    [
        (Refused(404, "NoSuchBucket", ""), "there is no bucket 'films'"),
        (Refused(400, "AuthorizationHeaderMalformed", "", "eu-1"), r"region \(eu-1\); set"),
        (Refused(403, "SomethingNew", "no"), r"denies access .*\(SomethingNew\)"),
        (Refused(418, "Teapot", "short and stout"), "answered 418 Teapot: short and stout"),
        (Refused(418, "Odd{code}", "{0}"), r"Odd\{code\}: \{0\}"),
    ],
)
def test_sentences(refused: Refused, said: str) -> None:
    """Each says what is wrong and where; what a server says is never taken for a pattern."""
    text = sentence(refused, "films", ENDPOINT)
    with pytest.raises(Refused, match=said):
        raise Refused(0, "", text)
