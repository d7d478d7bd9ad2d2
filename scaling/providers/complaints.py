"""What went wrong at a cloud, in a sentence that says what to do: libcloud's errors and others'.

Drivers raise what they like: classes of their own, of requests, of the standard library, and bare
`Exception`. All of it becomes `ProviderFailed`. The text of a request's error is never repeated,
because it may hold the whole address, and with it, for EC2, the user data and the join token.
"""

from __future__ import annotations

from scaling.ports import ProviderFailed
from scaling.providers.join import redacted

TEXT_MAX = 400


def complaint(error: Exception, *, doing: str, provider: str, token: str = "") -> ProviderFailed:
    """Translate.

    Args:
        doing: What was tried: `order grapevine-3`.
        token: Is not repeated.
    """
    # libcloud is an optional package, and so is requests, which comes with it.
    import requests  # noqa: PLC0415
    from libcloud.common.exceptions import (  # noqa: PLC0415
        BaseHTTPError,
        RateLimitReachedError,
    )
    from libcloud.common.types import InvalidCredsError, MalformedResponseError  # noqa: PLC0415

    match error:
        case ProviderFailed():
            return error
        case InvalidCredsError():
            what = (
                "it refused the credentials; check scaling.provider.libcloud.key and secret, and "
                "what they may do there"
            )
        case RateLimitReachedError():
            wait = f" for {error.retry_after:.0f} s" if error.retry_after else ""
            what = f"it was asked too often and wants to be left alone{wait}"
        case MalformedResponseError():
            what = "it answered something that libcloud cannot read; is that really its API?"
        case BaseHTTPError():
            what = f"it answered {error.code}: {_short(str(error.message), token)}"
        case requests.exceptions.SSLError():
            what = "its certificate is not trusted; is that really its API?"
        case requests.exceptions.Timeout():
            what = "it did not answer in time"
        case requests.exceptions.RequestException() | OSError():
            what = f"it cannot be reached ({type(error).__name__}); check the network, and region"
        case _:
            what = f"{type(error).__name__}: {_short(str(error), token)}"
    return ProviderFailed(f"cannot {doing} at {provider}: {what}")


def _short(text: str, token: str) -> str:
    line = " ".join(redacted(text, token).split())
    return line if len(line) <= TEXT_MAX else line[:TEXT_MAX] + " …"
