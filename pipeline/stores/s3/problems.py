"""What goes wrong between us and a store, and the sentences for it.

Inside this folder there are two kinds: `Lost`, when no answer came or not all of it, and `Refused`,
when the answer is an error. Both may pass by themselves. Only the store's own methods know whose
problem it is, and turn them into the port's errors: a key that is not there is one task's, a wrong
secret is everybody's.

Pure: answers and errors in, sentences out.
"""

from __future__ import annotations

import html
import re
import ssl
from collections.abc import Mapping

from urllib3 import exceptions as http

MISMATCH = frozenset({"BadDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch"})
PASSING_CODES = frozenset(
    {
        *MISMATCH,
        *("IncompleteBody", "RequestTimeout", "SlowDown", "OperationAborted"),
    }
)
"""Errors below 500 that another try may mend: a bad line, or a busy store."""
PASSING_STATUSES = frozenset({408, 425, 429})
"""The same where the code is a word of the server's own: too slow, too early, too often."""

FULL = frozenset({"XMinioStorageFull", "QuotaExceeded", "XMinioAdminBucketQuotaExceeded"})
ELSEWHERE = frozenset(
    {
        *("AuthorizationHeaderMalformed", "PermanentRedirect", "TemporaryRedirect", "Redirect"),
        *("IllegalLocationConstraintException", "InvalidRegion", "XMinioInvalidRegion"),
    }
)
EXPIRED = frozenset({"ExpiredToken", "TokenRefreshRequired", "InvalidToken", "InvalidTokenId"})
USUAL = {
    301: "PermanentRedirect",
    307: "TemporaryRedirect",
    403: "AccessDenied",
    404: "NoSuchKey",
    412: "PreconditionFailed",
    507: "QuotaExceeded",
}
"""What an answer without a body means."""
NO_CREDENTIALS = "NoCredentials"
RANGE_IGNORED = "RangeIgnored"
OF_THE_ASKER = frozenset(
    {
        *EXPIRED,
        *("InvalidAccessKeyId", "SignatureDoesNotMatch", "RequestTimeTooSkewed"),
    }
)
"""What is said to us, whatever we ask for."""


class Problem(Exception):
    """What another try may or may not mend."""

    @property
    def passing(self) -> bool:
        """Whether the same request may well succeed in a moment."""
        raise NotImplementedError


class Lost(Problem):
    """No answer, or not all of it: the store cannot be reached, is silent, or the line broke."""

    @property
    def passing(self) -> bool:
        """Lines come back."""
        return True


class Refused(Problem):
    """The store answered that it will not, or cannot.

    Args:
        status: Of the HTTP answer; 0 when we did not even ask.
        code: S3's word for it, or ours.
        region: Where the bucket is, if the store says so.
    """

    def __init__(self, status: int, code: str, message: str, region: str = "") -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.message = message
        self.region = region

    @property
    def passing(self) -> bool:
        """Its own errors may pass, ours do not."""
        its_own = self.status >= 500 and self.status != 501 and self.code not in FULL
        return its_own or self.status in PASSING_STATUSES or self.code in PASSING_CODES

    @property
    def mismatch(self) -> bool:
        """What arrived was not what was signed."""
        return self.code in MISMATCH

    @property
    def missing_object(self) -> bool:
        """There is nothing under that key."""
        return self.code in ("NoSuchKey", "NoSuchVersion")

    @property
    def archived(self) -> bool:
        """The object is where it takes hours to get it from."""
        return self.code == "InvalidObjectState"

    @property
    def doubtful(self) -> bool:
        """Whether it may be about the one object as well as about us or the store."""
        clear = self.missing_object or self.archived or self.code in OF_THE_ASKER
        return 300 <= self.status < 500 and not (clear or self.passing)


def refusal(status: int, headers: Mapping[str, str], body: bytes) -> Refused:
    """Read an error out of an answer; headers have lower-case names.

    The body is looked through, not parsed: whoever answers may be no S3 server at all.
    """
    region = headers.get("x-amz-bucket-region") or element(body, "Region")
    code = element(body, "Code") or USUAL.get(status, f"HTTP{status}")
    return Refused(status, code, element(body, "Message") or "no reason given", region)


def element(body: bytes, name: str) -> str:
    """The text of the first XML element of that name; empty without one."""
    match = re.search(rf"<{name}>([^<]{{0,2000}})</{name}>", body.decode(errors="replace"))
    return html.unescape(match[1]).strip() if match else ""


def line_trouble(error: Exception, endpoint: str) -> Lost:
    """Say what an HTTP client's error means."""
    cause = _innermost(error)
    match error, cause:
        case (_, ssl.SSLCertVerificationError()):
            what = (
                f"has a certificate that is not trusted ({cause.verify_message}); "
                "name the file with its authority in store.s3.ca_file"
            )
        case (http.SSLError(), _):
            what = f"cannot be reached over an encrypted connection: {cause}"
        case (_, http.NameResolutionError()):
            what = "has a name that is unknown; check store.s3.endpoint"
        case (http.NewConnectionError(), _):
            what = f"cannot be reached: {str(error).rpartition(': ')[2]}"
        case (http.ConnectTimeoutError(), _):
            what = "takes no connection"
        case (http.ReadTimeoutError(), _) | (_, TimeoutError()):
            what = "has been silent for too long"
        case _:
            what = f"broke the connection: {cause}"
    return Lost(f"the store at {endpoint} {what}")


def _innermost(error: Exception) -> Exception:
    """What urllib3 wraps, it wraps in its arguments; its word for a resolver's error is better."""
    while not isinstance(error, http.NameResolutionError):
        inner = [each for each in error.args if isinstance(each, Exception)]
        if not inner:
            break
        error = inner[-1]
    return error


SENTENCES = {
    "NoSuchBucket": "there is no bucket {bucket!r} at {endpoint}; make it, or set "
    "store.s3.create_bucket, or correct store.s3.bucket",
    "InvalidAccessKeyId": "{endpoint} does not know the access key; check store.s3.access_key",
    "SignatureDoesNotMatch": "{endpoint} rejects our signature; check store.s3.secret_key",
    "RequestTimeTooSkewed": "this machine's clock and that of {endpoint} are too far apart; set "
    "the one that is wrong",
    "NoSuchUpload": "the store at {endpoint} has dropped an upload that was going on",
    **dict.fromkeys(EXPIRED, "the store's credentials have expired ({code}); renew them"),
    **dict.fromkeys(FULL, "the store at {endpoint} is full; make room there"),
    **dict.fromkeys(
        ELSEWHERE, "the bucket {bucket!r} is in another region{where}; set store.s3.region"
    ),
    NO_CREDENTIALS: "{message}",
}
DENIED = (
    "{endpoint} denies access to the bucket {bucket!r} ({code}); the access key must be allowed to "
    "list it, to get, put and delete objects, and to list and abort uploads"
)
OTHERWISE = "the store at {endpoint} answered {status} {code}: {message}"

OF_AN_OBJECT = {
    "NoSuchBucket": "there is no bucket {bucket!r} at {endpoint}; correct the source's address",
    **dict.fromkeys(
        ELSEWHERE,
        "the bucket {bucket!r} is in another region{where}; copy it to one in the store's region",
    ),
}
OBJECT_DENIED = (
    "{endpoint} denies access to it ({code}: {message}); the access key must be allowed to get it, "
    "and to use the key that it is encrypted with, if it is"
)


def sentence(refused: Refused, bucket: str, endpoint: str) -> str:
    """What everybody's problem is, and what can be done about it."""
    usual = DENIED if refused.status == 403 else OTHERWISE
    return _fill(SENTENCES.get(refused.code, usual), refused, bucket, endpoint)


def sentence_of_object(refused: Refused, bucket: str, endpoint: str) -> str:
    """Why a store that is well does not give an object of that bucket."""
    usual = OBJECT_DENIED if refused.status == 403 else OTHERWISE
    return _fill(OF_AN_OBJECT.get(refused.code, usual), refused, bucket, endpoint)


def _fill(said: str, refused: Refused, bucket: str, endpoint: str) -> str:
    return said.format(
        bucket=bucket,
        endpoint=endpoint,
        status=refused.status,
        code=refused.code,
        message=refused.message,
        where=f" ({refused.region})" if refused.region else "",
    )
