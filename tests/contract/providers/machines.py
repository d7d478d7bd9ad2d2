#!/usr/bin/env python3
"""A provider for tests, as a user would write one: every machine is a file in a directory.

usage: machines.py DIRECTORY create|list|destroy [NAME]

What a test wants to go wrong it writes into DIRECTORY/.trouble.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path


def main() -> int:
    directory, what, *names = Path(sys.argv[1]), *sys.argv[2:]
    with (directory / ".calls").open("a") as calls:
        calls.write(f"{what} {' '.join(names)}".strip() + "\n")
    trouble = directory / ".trouble"
    if trouble.exists() and (code := go_wrong(directory, what, trouble.read_text())) is not None:
        return code
    if what == "list":
        for machine in sorted(directory.glob("[!.]*")):
            sys.stdout.write(json.dumps({"name": machine.name, "state": "booting"}) + "\n")
    elif what == "create":
        # `x`: one that exists is an error, so a test sees whether it is asked for twice.
        with (directory / names[0]).open("x") as file:
            seen = {name: value for name, value in os.environ.items() if "GRAPEVINE" in name}
            json.dump({"argv": sys.argv, "environment": seen, "all": sorted(os.environ)}, file)
    else:
        (directory / names[0]).unlink()
    return 0


def go_wrong(directory: Path, what: str, trouble: str) -> int | None:
    words = trouble.split()
    if words[0] != what:
        return None
    match words[1]:
        case "fail":
            sys.stderr.write(f"quota exceeded\x1b[0m for {os.environ.get('GRAPEVINE_JOIN_TOKEN')}")
            return int(words[2])
        case "scream":
            sys.stderr.write(f"{os.environ.get('GRAPEVINE_JOIN_TOKEN')} " * 1_000 + "no quota")
            return 1
        case "print":
            sys.stdout.write(" ".join(words[2:]))
        case "flood":
            sys.stderr.write("noise " * 100_000 + "and the reason")
            sys.stdout.write("x" * (2 * 1024 * 1024))
        case "hang":
            child = subprocess.Popen(["sleep", "1000"])
            write(directory, f"{os.getpid()} {child.pid}")
            time.sleep(1000)
        case "leave":
            child = subprocess.Popen(["sleep", "1000"])
            write(directory, str(child.pid))
        case _:
            return None
    return 0


def write(directory: Path, pids: str) -> None:
    """All of it or nothing, for the test that looks."""
    (directory / ".pids.new").write_text(pids)
    (directory / ".pids.new").rename(directory / ".pids")


if __name__ == "__main__":
    sys.exit(main())
