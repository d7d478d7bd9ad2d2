"""What goes wrong between us and a Swarm, and the sentences for it.

Inside this folder there are two kinds: `Lost`, when no answer came, and `Refused`, when the answer
is an error. The port knows three: somebody was quicker, a later leader has written, or the Swarm is
not to be had now and everything stays as it is. Engines tell their troubles by the text more than
by the status: a stale version is a 500, as is the loss of the quorum. (Measured on engine 20.10.)

Pure: answers and errors in, sentences out.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass

from scaling.ports import Conflict, OrchestratorUnavailable, ScalingError

OUT_OF_SEQUENCE = "out of sequence"
NO_LEADER = (
    "does not have a leader",
    "lost leader status",
    "deadlineexceeded",
    "deadline exceeded",
    "context canceled",
    "desc = transport is closing",
    "code = unavailable",
    "raft: ",
)
NOT_A_MANAGER = ("not a swarm manager", "not part of a swarm")


UNREACHED = (FileNotFoundError, PermissionError, ConnectionRefusedError, ssl.SSLError)
"""With these there was no connection, so nothing was asked."""


class Problem(Exception):
    """A call to a manager that did not do what was asked, or of which that is not known."""

    @property
    def elsewhere(self) -> bool:
        """Another manager may well do it."""
        raise NotImplementedError

    @property
    def untouched(self) -> bool:
        """It is certain that nothing was done: the same may be asked of another manager."""
        raise NotImplementedError


class Lost(Problem):
    """No answer came: the manager cannot be reached, or was silent.

    Args:
        reached: It may have heard the request, and act yet.
    """

    def __init__(self, said: str, *, reached: bool = True) -> None:
        super().__init__(said)
        self.reached = reached

    @property
    def elsewhere(self) -> bool:
        """It may be this one manager's trouble."""
        return True

    @property
    def untouched(self) -> bool:
        """When there was no connection at all."""
        return not self.reached


@dataclass
class Refused(Problem):
    """The manager answered that it will not, or cannot.

    Args:
        status: Of the HTTP answer.
        said: The engine's own words.
    """

    status: int
    said: str

    def __post_init__(self) -> None:
        super().__init__(self.status, self.said)

    @property
    def stale(self) -> bool:
        """The version that was changed is not the present one."""
        return OUT_OF_SEQUENCE in self.said

    @property
    def exists(self) -> bool:
        """Something of that name was there before."""
        return self.status == 409

    @property
    def missing(self) -> bool:
        """There is nothing of that name or id."""
        return self.status == 404

    @property
    def elsewhere(self) -> bool:
        """Another manager may well do it."""
        return self.status == 503 or _says(self, *NO_LEADER, *NOT_A_MANAGER)

    @property
    def untouched(self) -> bool:
        """A write that lost its leader on the way may still be done; a worker does none."""
        return _says(self, *NOT_A_MANAGER)


def scaling_error(problem: Problem, manager: str) -> ScalingError:
    """What the controller is told."""
    match problem:
        case Refused(stale=True):
            return Conflict("the Swarm was changed by somebody else meanwhile; look again")
        case Refused():
            return OrchestratorUnavailable(_sentence(problem, manager))
        case _:
            return OrchestratorUnavailable(str(problem))


def _sentence(refused: Refused, manager: str) -> str:
    if _says(refused, *NOT_A_MANAGER):
        return (
            f"the engine at {manager} is no manager of a Swarm; name managers in "
            "scaling.swarm.managers, or promote its node (docker node promote)"
        )
    if _says(refused, *NO_LEADER):
        return (
            f"the Swarm's managers have no leader, says {manager}: nothing is changed until they "
            f"have one again; if that lasts, start managers until most of them run ({refused.said})"
        )
    if refused.status in (401, 403):
        return (
            f"{manager} does not allow it ({refused.said}); a proxy before it must let through: "
            "GET services, tasks, nodes, configs and events, POST service, node and config updates "
            "and configs/create, DELETE nodes and configs"
        )
    return f"{manager} answered {refused.status}: {refused.said}"


def _says(refused: Refused, *words: str) -> bool:
    said = refused.said.lower()
    return any(word in said for word in words)


def line_trouble(error: BaseException, manager: str) -> Lost:
    """Say what an HTTP client's error means: the innermost one has the cause."""
    cause = _innermost(error)
    match cause:
        case FileNotFoundError():
            what = (
                "does not exist; start Docker on this machine, mount its socket into the container "
                "or correct scaling.swarm.managers"
            )
        case PermissionError():
            what = (
                "may not be opened by this user; add the user to the group docker, "
                "or give the manager's address with TLS files instead"
            )
        case ConnectionRefusedError():
            what = "takes no connection; is the Docker engine running there?"
        case ssl.SSLCertVerificationError():
            what = (
                f"has a certificate that is not trusted ({cause.verify_message}); "
                "name the file with its authority in scaling.swarm.ca_file"
            )
        case ssl.SSLError():
            what = (
                f"cannot be reached over an encrypted connection ({cause.reason or cause}); "
                "check scaling.swarm.certificate_file and key_file"
            )
        case TimeoutError():
            what = "is silent"
        case _:
            what = f"cannot be talked to: {cause or type(cause).__name__}"
    return Lost(f"the manager at {manager} {what}", reached=not isinstance(cause, UNREACHED))


def _innermost(error: BaseException) -> BaseException:
    """What the SDK wraps, it wraps as cause, as context or, like urllib3, in the arguments."""
    seen: list[BaseException] = []
    while error not in seen:
        seen.append(error)
        wrapped = [each for each in error.args if isinstance(each, BaseException)]
        reason = getattr(error, "reason", None)
        if isinstance(reason, BaseException):
            wrapped.append(reason)
        error = next(
            (each for each in (*wrapped, error.__cause__, error.__context__) if each is not None),
            error,
        )
    return error
