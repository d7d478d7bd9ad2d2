"""What a new machine does when it first starts: run by a real shell, with a stand-in for docker."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

from scaling.providers.cloud_init import SCRIPT, user_data
from scaling.providers.join import Join

TOKEN = 'it\'s "a" $(token)'
JOIN = Join(token=TOKEN, addresses=("10.0.0.1:2377", "[fd00::1]:2377"))

DOCKER = """#!/bin/sh
for argument in "$@"; do printf '%s\\n' "$argument"; done >>"$LOG"
case "$1 $5" in
    "info ") echo inactive ;;
    "swarm [fd00::1]:2377") exit 0 ;;
    *) exit 1 ;;
esac
"""


def _document(text: str) -> dict[str, Any]:
    first, _, rest = text.partition("\n")
    assert first == "#cloud-config"
    document: dict[str, Any] = json.loads(rest)
    return document


def test_it_is_json_after_the_first_line() -> None:
    """YAML's own subset: nothing in a name, a token or an address can break out of it."""
    document = _document(user_data("pool-1", JOIN))
    assert document["hostname"] == "pool-1"
    assert document["preserve_hostname"] is False
    assert document["runcmd"] == [[SCRIPT]]
    (file,) = document["write_files"]
    assert (file["path"], file["permissions"]) == (SCRIPT, "0700")


def test_the_script_joins_by_the_first_manager_that_answers(tmp_path: Path) -> None:
    """Each manager is tried with the token as it is, and the script with the token is gone then."""
    (file,) = _document(user_data("pool-1", JOIN))["write_files"]
    script = tmp_path / "join"
    script.write_text(file["content"].replace(SCRIPT, shlex.quote(str(script))))
    (tmp_path / "docker").write_text(DOCKER)
    (tmp_path / "docker").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "LOG": str(tmp_path / "log")}
    subprocess.run(["sh", script], env=environment, check=True, timeout=30)
    joins = (tmp_path / "log").read_text().splitlines()
    assert joins == [
        *("swarm", "join", "--token", TOKEN, "10.0.0.1:2377"),
        *("swarm", "join", "--token", TOKEN, "[fd00::1]:2377"),
    ]
    assert not script.exists()


def test_a_file_of_the_users_own_is_filled_in() -> None:
    """Three values, and nothing else is touched."""
    template = "${GRAPEVINE_NODE_NAME} ${GRAPEVINE_JOIN_ADDRESSES} $HOME ${OTHER}"
    assert user_data("pool-1", JOIN, template) == (
        "pool-1 10.0.0.1:2377,[fd00::1]:2377 $HOME ${OTHER}"
    )
