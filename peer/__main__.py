"""Where the `peer` program begins: light, so that it hears signals long before it has loaded."""

from __future__ import annotations

import os

from peer import first_process


def main() -> None:
    """Start the peer; where it is a container's first process, below one that keeps order there."""
    if os.getpid() == 1:
        first_process.become()
    from peer.program import main as run  # noqa: PLC0415 - takes most of a second

    run()


if __name__ == "__main__":
    main()
