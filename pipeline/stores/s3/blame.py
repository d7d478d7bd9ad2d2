"""Whose problem each problem is: one task's, or everybody's.

What is wrong with one object fails one task; what is wrong with the store, our credentials or the
line is everybody's, and the port's `StoreUnavailable` says so: then all wait.

A refusal to give an object may be either. Servers say `AccessDenied` when the access key has lost
its rights and when one object is encrypted with somebody else's key, and `InvalidRequest` of an
object whose key only its owner has; so no list of codes can tell them apart, and a list that errs
stops the cluster for one bad task, or fails all tasks for one bad key. `S3Store` asks instead:
whether the store would answer as it should if we asked for something else.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.errors import PullFailed, PushFailed, StoreUnavailable
from pipeline.stores.copying import SourceChanged
from pipeline.stores.locations import Location
from pipeline.stores.reasons import PERMANENT, explain
from pipeline.stores.s3.problems import (
    ELSEWHERE,
    Lost,
    Problem,
    Refused,
    sentence,
    sentence_of_object,
)
from pipeline.stores.s3.pull import Changed, Corrupt
from pipeline.stores.s3.push import TooLarge
from pipeline.stores.s3.sections import Unreadable

OF_BUCKETS = frozenset({"NoSuchBucket", "AccessDenied", "AllAccessDisabled", *ELSEWHERE})
"""What is said of a whole bucket, if that is not ours."""
TOO_LARGE = frozenset({"EntityTooLarge"})


class ObjectRefused(Exception):
    """The store is well, and will not give this object."""

    def __init__(self, refused: Refused) -> None:
        super().__init__(str(refused))
        self.refused = refused


class Blame:
    """Turns problems into the port's errors.

    Args:
        bucket: Ours.
        endpoint: The store's URL.
    """

    def __init__(self, bucket: str, endpoint: str) -> None:
        self._bucket = bucket
        self._endpoint = endpoint

    @contextmanager
    def pulling(self, key: str, location: Location) -> Iterator[None]:
        """While an object is fetched, or looked at."""

        def failed(reason: str, code: str, *, permanent: bool = False) -> PullFailed:
            return PullFailed(reason, code=code, permanent=permanent)

        try:
            yield
        except ObjectRefused as error:
            said = sentence_of_object(error.refused, location.bucket, self._endpoint)
            foreign = location.bucket != self._bucket and error.refused.code in OF_BUCKETS
            code = "bucket_refused" if foreign else "object_refused"
            raise failed(f"{key!r} cannot be fetched: {said}", code, permanent=True) from error
        except Refused as refused:
            if refused.missing_object:
                said = f"there is no object {key!r} in the store"
                raise failed(said, "no_such_object", permanent=True) from refused
            if refused.archived:
                said = f"{key!r} is archived; restore it in the store first"
                raise failed(said, "archived", permanent=True) from refused
            raise self._unavailable(refused, definite=True) from refused
        except Lost as lost:
            raise self._unavailable(lost, definite=True) from lost
        except Changed as changed:
            raise failed(f"{key!r} changed while it was read", "source_changed") from changed
        except Corrupt as corrupt:
            said = f"{key!r} does not have the checksum that is kept with it"
            raise failed(said, "checksum_mismatch") from corrupt
        except OSError as error:
            code, reason = explain(error)
            said = f"{key!r} cannot be fetched: {reason}"
            raise failed(said, code, permanent=code in PERMANENT) from error

    @contextmanager
    def pushing(self, key: str) -> Iterator[None]:
        """While an object is stored."""

        def failed(reason: str, code: str, *, permanent: bool = False) -> PushFailed:
            return PushFailed(f"{key!r} cannot be stored: {reason}", code=code, permanent=permanent)

        try:
            yield
        except Refused as refused:
            if refused.code in TOO_LARGE:
                raise failed("it is too large", "file_too_large", permanent=True) from refused
            if refused.mismatch:
                reason = "what arrived, again and again, was not what was sent"
                raise failed(reason, "checksum_mismatch") from refused
            raise self._unavailable(refused, definite=False) from refused
        except Lost as lost:
            raise self._unavailable(lost, definite=False) from lost
        except SourceChanged as changed:
            raise failed("the file changed while it was read", "source_changed") from changed
        except TooLarge as large:
            raise failed("it is too large", "file_too_large", permanent=True) from large
        except (OSError, Unreadable) as error:
            cause = error if isinstance(error, OSError) else error.__cause__
            code, reason = (
                explain(cause) if isinstance(cause, OSError) else ("io_error", "unreadable")
            )
            raise failed(reason, code, permanent=code in PERMANENT) from error

    @contextmanager
    def reaching(self) -> Iterator[None]:
        """While the store is asked about no object in particular."""
        try:
            yield
        except Problem as problem:
            raise self._unavailable(problem, definite=False) from problem

    def _unavailable(self, problem: Problem, *, definite: bool) -> StoreUnavailable:
        said = (
            sentence(problem, self._bucket, self._endpoint)
            if isinstance(problem, Refused)
            else str(problem)
        )
        return StoreUnavailable(said, definite=definite)
