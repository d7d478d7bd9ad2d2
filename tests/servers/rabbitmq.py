"""A RabbitMQ for tests: Debian's broker on private ports, with all it keeps in one directory.

Debian's wrapper in /usr/sbin changes user and directory, so the program behind it is called. Erlang
also wants epmd, a registry of names, and would leave one behind for ever: here it is a child like
the broker, on a port of its own. Nothing listens outside 127.0.0.1.

A TCP connection is no sign of readiness, and each `rabbitmqctl` takes a second; so readiness is an
AMQP greeting that is answered.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import urllib3

from tests.servers.guardian import Guardian

PROGRAMS = Path("/usr/lib/rabbitmq/bin")
READY_S = 60.0
STOP_S = 30.0
LOG_LINES = 60
"""So many of the last ones are shown."""

GREETING = b"AMQP\x00\x00\x09\x01"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerCertificate:
    """PEM files for a TLS listener; clients get only `authority`."""

    authority: Path
    certificate: Path
    key: Path


class RabbitServer:
    """One broker, whose ports, password and data stay the same however often it is started.

    Args:
        directory: For its data, made when it is missing. Whoever made it removes it.
        tls: Also listen with TLS, see `tls_url`.
        ask_for_certificate: Whoever comes by TLS must show one of the same authority.
        settings: More lines for its rabbitmq.conf: `consumer_timeout = 10000`.
    """

    user = "grapevine"

    def __init__(
        self,
        directory: Path,
        *,
        tls: ServerCertificate | None = None,
        ask_for_certificate: bool = False,
        settings: str = "",
    ) -> None:
        self._directory = directory
        self._tls = tls
        self._ask = ask_for_certificate
        self._settings = settings
        self.port, self.tls_port, self.management_port, self._erlang_port, self._names_port = (
            _free_ports(5)
        )
        self.password = secrets.token_hex(8)
        self._process: subprocess.Popen[bytes] | None = None
        self._names: subprocess.Popen[bytes] | None = None
        self._guardian = Guardian()
        self._names_guardian = Guardian()
        self._recovered = False

    @property
    def url(self) -> str:
        """For clients, with user and password."""
        return f"amqp://{self.user}:{self.password}@127.0.0.1:{self.port}"

    @property
    def tls_url(self) -> str:
        """For clients that use TLS. The certificate should be for `localhost`."""
        return f"amqps://{self.user}:{self.password}@localhost:{self.tls_port}"

    @property
    def management_url(self) -> str:
        """Of the management API; user and password are those of `url`."""
        return f"http://127.0.0.1:{self.management_port}"

    @property
    def pid(self) -> int | None:
        """Of the running broker."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Return when it answers. A broker that is running already is left as it is.

        One that has ended by itself meanwhile is an error, once: the next call starts it again.
        """
        if self._process is not None:
            self._insist_that_it_lives()
            return
        self._directory.mkdir(parents=True, exist_ok=True)
        self._recovered = self._data.exists()
        self._write_configuration()
        if self._names is None:
            self._names = subprocess.Popen(
                ["epmd", "-address", "127.0.0.1", "-port", str(self._names_port)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            self._names_guardian.guard(self._names.pid)
            _wait_for(lambda: _greeted(self._names_port, b"\0\1n"), READY_S, "epmd")
        with (self._directory / "output.log").open("ab") as output:
            self._process = subprocess.Popen(
                [str(PROGRAMS / "rabbitmq-server")],
                cwd=self._directory,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # a group of its own, for signals to all of it
            )
        self._guardian.guard(self._process.pid)
        try:
            self.wait_ready()
        except BaseException:
            self.kill()
            raise

    def wait_ready(self) -> None:
        """Return when it answers."""

        def answers() -> bool:
            self._insist_that_it_lives()
            ports = [self.port, self.management_port]
            greetings = [GREETING, b"GET / HTTP/1.0\r\n\r\n"]
            return all(map(_greeted, ports, greetings))

        _wait_for(answers, READY_S, "RabbitMQ")

    def stop(self) -> None:
        """End it as an operator would, and what was started for it; its data stays."""
        self._end(signal.SIGTERM)
        if self._names is not None:
            self._names_guardian.dismiss()
            self._names.kill()
            self._names.wait()
            self._names = None

    def kill(self) -> None:
        """End it at once, by SIGKILL; its data stays as the crash left it."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Let it stand still, with its connections open, until it is thawed."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def control(self, *command: str) -> str:
        """Run `rabbitmqctl`, and return what it said; takes a second."""
        run = subprocess.run(
            [str(PROGRAMS / "rabbitmqctl"), "--quiet", *command],
            env=self._environment(),
            cwd=self._directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=READY_S,
            check=False,
        )
        assert run.returncode == 0, f"rabbitmqctl {' '.join(command)}: {run.stdout}{run.stderr}"
        return run.stdout

    def add_user(self, name: str, *, names: str) -> str:
        """Add a user and return the URL for it.

        Args:
            names: A pattern: of the exchanges and queues that it may declare, write and read. It
                may ask the management API about them, and has no other rights.
        """
        self.manage("PUT", f"/api/users/{name}", {"password": self.password, "tags": "management"})
        rights = {"configure": names, "write": names, "read": names}
        self.manage("PUT", f"/api/permissions/%2F/{name}", rights)
        return f"amqp://{name}:{self.password}@127.0.0.1:{self.port}"

    def remove_queues(self, prefix: str) -> None:
        """Remove all exchanges and queues whose names begin so, with what is in them.

        A broker that was started on what an earlier one left is replaced by an empty one: RabbitMQ
        3.10 gives up dead-lettering for all queues, until its next start, when one is deleted that
        is just being recovered (its rabbit_fifo_dlx_sup ends), and then no queue can be declared.
        """
        if self._process is not None:
            try:
                self._insist_that_it_lives()
            except AssertionError:
                self._start_anew()
                raise
        if self._process is None or self._recovered:
            self._start_anew()
            return
        for kind in ("queues", "exchanges"):
            for name in self.names_of(kind):
                if name.startswith(f"{prefix}."):
                    self.manage("DELETE", f"/api/{kind}/%2F/{name}")

    def _start_anew(self) -> None:
        self.kill()
        shutil.rmtree(self._data, ignore_errors=True)
        self.start()

    def names_of(self, kind: str) -> list[str]:
        """The names of all `queues`, `exchanges` or `connections`."""
        return [each["name"] for each in self.manage("GET", f"/api/{kind}?columns=name")]

    def manage(self, method: str, path: str, body: object = None) -> Any:
        """Ask the management API, and return its answer."""
        with urllib3.PoolManager(retries=False, timeout=READY_S) as http:
            answer = http.request(
                method,
                self.management_url + path,
                headers=urllib3.make_headers(basic_auth=f"{self.user}:{self.password}"),
                json=body,
            )
        assert answer.status < 300, f"{method} {path}: {answer.status} {answer.data.decode()}"
        return answer.json() if answer.data else None

    @property
    def output(self) -> str:
        """The end of what it has said, for a failing test."""
        logs = [self._directory / "output.log", *sorted((self._directory / "log").glob("*.log"))]
        return "\n".join(f"{log.name}:\n{_end_of(log)}" for log in logs if log.exists())

    def _insist_that_it_lives(self) -> None:
        assert self._process is not None
        code = self._process.poll()
        if code is not None:
            self.kill()  # what it may have left
            raise AssertionError(f"the broker ended by itself ({code}). It said:\n{self.output}")

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None, "the broker is not running"
        os.killpg(self._process.pid, number)

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        self._guardian.dismiss()
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGCONT)
            # Erlang's helpers end with it; ended before, they would take its logs along.
            if number is signal.SIGKILL:
                os.killpg(self._process.pid, number)
            else:
                self._process.send_signal(number)
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._process = None

    @property
    def _data(self) -> Path:
        return self._directory / "data"

    def _environment(self) -> dict[str, str]:
        """All it would otherwise look up in the system's directories, or in our environment."""
        home = self._directory / "home"
        home.mkdir(mode=0o700, exist_ok=True)
        here = {
            "HOME": home,  # the cookie lies there
            "RABBITMQ_MNESIA_BASE": self._data,
            "RABBITMQ_LOG_BASE": self._directory / "log",
            "RABBITMQ_ENABLED_PLUGINS_FILE": self._directory / "enabled_plugins",
            "RABBITMQ_CONFIG_FILE": self._directory / "rabbitmq.conf",
            "RABBITMQ_ADVANCED_CONFIG_FILE": self._directory / "advanced.config",
            "RABBITMQ_PID_FILE": self._directory / "pid",
        }
        fixed = {
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": "C.UTF-8",
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_NODENAME": f"grapevine-{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._erlang_port),
            "ERL_EPMD_PORT": str(self._names_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            # Two schedulers that do not spin: other tests run beside it.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none"
                " -kernel inet_dist_use_interface {127,0,0,1}"
            ),
            # The program then becomes the broker, instead of waiting for one that is its child.
            "RUNNING_UNDER_SYSTEMD": "true",
        }
        return {**fixed, **{name: str(path) for name, path in here.items()}}

    def _write_configuration(self) -> None:
        lines = [
            f"listeners.tcp.1 = 127.0.0.1:{self.port}",
            f"default_user = {self.user}",
            f"default_pass = {self.password}",
            "management.tcp.ip = 127.0.0.1",
            f"management.tcp.port = {self.management_port}",
            "vm_memory_high_watermark.absolute = 1GB",
            "disk_free_limit.absolute = 50MB",
            # What the management API tells is then a second old, not ten (see also below).
            "collect_statistics_interval = 200",
        ]
        if self._tls is not None:
            lines += [
                f"listeners.ssl.1 = 127.0.0.1:{self.tls_port}",
                f"ssl_options.cacertfile = {self._tls.authority}",
                f"ssl_options.certfile = {self._tls.certificate}",
                f"ssl_options.keyfile = {self._tls.key}",
                f"ssl_options.verify = {'verify_peer' if self._ask else 'verify_none'}",
                f"ssl_options.fail_if_no_peer_cert = {'true' if self._ask else 'false'}",
            ]
        conf = "\n".join([*lines, self._settings, ""])
        (self._directory / "rabbitmq.conf").write_text(conf)
        # When a broker starts again, a queue may move messages on to one that is not up yet. It
        # learns of that by waiting, and three minutes are too long for a test.
        rabbit = "{quorum_tick_interval,200},{dead_letter_worker_publisher_confirm_timeout,3000}"
        # How often the management API gathers what was counted is the shortest of these: a second,
        # which is the least, instead of five. It goes by the broker's clock, not by what happens.
        kept = ",".join(f"{{{policy},[{{60,1}}]}}" for policy in ("global", "basic", "detailed"))
        management = f"{{sample_retention_policies,[{kept}]}}"
        (self._directory / "advanced.config").write_text(
            f"[{{rabbit,[{rabbit}]}},{{rabbitmq_management,[{management}]}}]."
        )
        (self._directory / "enabled_plugins").write_text("[rabbitmq_management].")


def why_missing() -> str | None:
    """What is not installed here; None when tests can have a broker."""
    if not (PROGRAMS / "rabbitmq-server").exists():
        return "there is no RabbitMQ: apt-get install rabbitmq-server"
    if shutil.which("epmd") is None:
        return "there is no epmd: apt-get install erlang-base"
    return None


def _end_of(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-LOG_LINES:])


def _greeted(port: int, greeting: bytes) -> bool:
    """Whether something answers on that port."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(greeting)
        return bool(connection.recv(1))
    return False


def _wait_for(condition: object, within_s: float, what: str) -> None:
    assert callable(condition)
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"{what} does not answer within {within_s} s"
        time.sleep(0.05)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()
