"""What went wrong with the broker, as one sentence for a person.

What pika, TLS and the system raise names classes and numbers, and often wraps the cause.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator

import trio
from pika.exceptions import (
    AMQPError,
    AMQPHeartbeatTimeout,
    AuthenticationError,
    ChannelClosedByBroker,
    ConnectionClosedByBroker,
    IncompatibleProtocolError,
    ProbableAccessDeniedError,
    ProbableAuthenticationError,
    StreamLostError,
)

ACCESS_REFUSED = 403
NOT_ALLOWED = 530
INTERNAL_ERROR = 541


class GivenUp(AMQPError):
    """This side has ended a line, and says why."""


FAILURES = (AMQPError, OSError, trio.TooSlowError, trio.BrokenResourceError)
"""All that a line, or opening one, may raise."""


def explain(error: BaseException) -> str:
    """Say what happened, without a full stop, as the end of a sentence."""
    causes = list(_causes(error))
    for cause in causes:
        if (text := _known(cause)) is not None:
            return text
    return str(causes[0]) or type(causes[0]).__name__


def _known(error: BaseException) -> str | None:
    text: str | None = None
    match error:
        case ssl.SSLCertVerificationError():
            text = f"its certificate is not trusted: {error.verify_message}"
        case ssl.SSLError():
            text = f"TLS failed: {getattr(error, 'reason', None) or error}"
        case ConnectionClosedByBroker() if error.reply_code == ACCESS_REFUSED:
            text = "it refused the user or the password"
        case AuthenticationError() | ProbableAuthenticationError():
            text = "it refused the user or the password"
        case ProbableAccessDeniedError():
            text = "it refused the virtual host: it does not exist, or the user may not use it"
        case ConnectionClosedByBroker() if error.reply_code == NOT_ALLOWED:
            text = f"it refused the virtual host: {error.reply_text}"
        case ConnectionClosedByBroker() if error.reply_code == INTERNAL_ERROR:
            text = (
                f"it said {error.reply_text}: its log has more, and where queues were deleted while"
                " it was starting it must be started again"
            )
        case ConnectionClosedByBroker() | ChannelClosedByBroker():
            text = f"it said {error.reply_text}"
        case IncompatibleProtocolError():
            text = "it ended the connection unheard: is it RabbitMQ, does it expect TLS?"
        case StreamLostError() | AMQPHeartbeatTimeout() | GivenUp():
            text = str(error.args[0]) if error.args else None
        case trio.TooSlowError():
            text = "it does not answer"
        case OSError() if error.strerror:
            text = error.strerror
    return text


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what caused it, each once."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        each = waiting.pop(0)
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        waiting += each.exceptions if isinstance(each, BaseExceptionGroup) else []
        waiting += [each.__cause__, each.__context__]
