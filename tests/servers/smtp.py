"""A mail server for tests: takes what it is sent, or refuses it, and keeps it.

As much of SMTP (RFC 5321) as a client that submits a mail uses; no TLS, no accounts. Threads, for
its clients are not all async; loopback only.
"""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import cast


class SmtpServer(socketserver.ThreadingTCPServer):
    """Listens on a port of its own once it is made.

    Args:
        refuses: Answers every mail with a temporary failure, while that is so.
    """

    daemon_threads = True

    def __init__(self, *, refuses: bool = False) -> None:
        self.refuses = refuses
        self.mails: list[EmailMessage] = []
        super().__init__(("127.0.0.1", 0), _Conversation)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.server_address[1])

    @contextmanager
    def running(self) -> Iterator[SmtpServer]:
        """Answer, until the end of the block."""
        thread = threading.Thread(target=self.serve_forever, args=[0.01])
        thread.start()
        try:
            yield self
        finally:
            self.shutdown()
            thread.join()
            self.server_close()


class _Conversation(socketserver.StreamRequestHandler):
    timeout = 10

    def handle(self) -> None:
        server = cast("SmtpServer", self.server)
        self._say("220 a test")
        while line := self.rfile.readline(1000):
            match line.split(None, 1)[0].upper():
                case b"EHLO" | b"HELO" | b"MAIL" | b"RCPT" | b"RSET":
                    self._say("250 so be it")
                case b"DATA" if server.refuses:
                    self._say("451 not now")
                case b"DATA":
                    self._say("354 go on")
                    server.mails.append(self._mail())
                    self._say("250 kept")
                case b"QUIT":
                    self._say("221 goodbye")
                    return
                case _:
                    self._say("502 that is all")

    def _mail(self) -> EmailMessage:
        """Read up to the line with a dot; other dots at beginnings are doubled."""
        lines: list[bytes] = []
        while (line := self.rfile.readline()) not in (b".\r\n", b""):
            lines.append(line.removeprefix(b"."))
        return message_from_bytes(b"".join(lines), policy=policy.default)

    def _say(self, line: str) -> None:
        self.wfile.write(f"{line}\r\n".encode())
