"""`docker-gate`: stand before this manager's Docker socket, until told to stop.

docker-gate --service grapevine_peer --pool worker --listen /run/grapevine/docker.sock
docker-gate --check --listen /run/grapevine/docker.sock
"""

from __future__ import annotations

import http.client
import logging
import re
import signal
import socket
import sys
from pathlib import Path

import click
import trio

from scaling.config import ScalingConfig
from scaling.swarm.config import SwarmConfig
from scaling.swarm.proxy.changes import Bounds
from scaling.swarm.proxy.engine import Engine
from scaling.swarm.proxy.gate import Gate
from scaling.swarm.proxy.server import listening, serve

log = logging.getLogger(__name__)

SWARM = SwarmConfig()
CHECK_S = 5.0
TERMINATED = 143


@click.command(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: docker-gate --service grapevine_peer --listen /run/grapevine/docker.sock",
)
@click.option(
    "--listen",
    type=click.Path(path_type=Path),
    default=Path("/run/grapevine/docker.sock"),
    show_default=True,
    help="The socket that peers are given.",
)
@click.option(
    "--engine",
    type=click.Path(path_type=Path),
    default=Path("/var/run/docker.sock"),
    show_default=True,
    help="Docker's own.",
)
@click.option(
    "--service", default=SWARM.service, show_default=True, help="The service that is scaled."
)
@click.option(
    "--pool", default=ScalingConfig().pool, show_default=True, help="As scaling.pool of the peers."
)
@click.option(
    "--label", default=SWARM.label, show_default=True, help="As scaling.swarm.label of the peers."
)
@click.option(
    "--containers-max",
    type=click.IntRange(0),
    default=1000,
    show_default=True,
    help="More than that the service never runs, whoever leads.",
)
@click.option(
    "--joins",
    is_flag=True,
    help="Tell the token that workers join with. Only where scaling.provider makes machines.",
)
@click.option("--check", is_flag=True, help="Ask the one that listens there whether all is well.")
def main(
    *,
    listen: Path,
    engine: Path,
    service: str,
    pool: str,
    label: str,
    containers_max: int,
    joins: bool,
    check: bool,
) -> None:
    """Let peers scale their service through this manager's Docker socket, and do nothing else."""
    if check:
        sys.exit(_check(listen))
    try:
        config = SwarmConfig(service=service, pool=pool, label=label)
    except ValueError as error:
        raise click.UsageError(re.sub(r"^scaling\.swarm\.", "--", str(error))) from error
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    gate = Gate(Engine(engine), Bounds(config, containers_max), joins=joins)
    try:
        trio.run(_serve, gate, listen)
    except OSError as error:
        log.critical("cannot listen at %s: %s", listen, error)
        sys.exit(1)
    sys.exit(TERMINATED)


async def _serve(gate: Gate, listen: Path) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        with listening(listen) as listener:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(serve, gate, listener)
                log.info("listening at %s", listen)
                async for _ in signals:
                    nursery.cancel_scope.cancel()
                    return


def _check(listen: Path) -> int:
    """Ask it something small; the exit status says how it went, and a line why not."""
    connection = http.client.HTTPConnection("docker", timeout=CHECK_S)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
            line.settimeout(CHECK_S)
            line.connect(str(listen))
            connection.sock = line
            connection.request("GET", "/version")
            answer = connection.getresponse()
            said = answer.read().decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        click.echo(f"{listen}: {error}")
        return 1
    if answer.status != http.HTTPStatus.OK:
        click.echo(said)
        return 1
    return 0
