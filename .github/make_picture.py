"""Draw the README's picture: what `peerctl demo` really printed, in a real terminal.

tmux is the terminal, so that the bars that were drawn over each other end up as a person sees them;
rich turns its screens into an SVG, one from the middle of the work and the last one. A recording
that plays would show more, but weighs megabytes, and a still picture can be read.
"""

from __future__ import annotations

import argparse
import io
import re
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

ROOT = Path(__file__).parents[1]
COLUMNS, ROWS = 100, 45
TIMEOUT_S = 300
LOOK_S = 0.5
BUSY = "transcode"
"""What the screen says while renditions are being made."""


def main() -> None:
    """Run the demo, or any other command, and write the picture."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--output", type=Path, default=ROOT / ".github" / "demo.svg")
    parser.add_argument("command", nargs="*", default=["peerctl", "demo"])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="grapevine-") as directory:
        # As root, the database server runs as another user, who must get through.
        Path(directory).chmod(0o711)
        screens = show(arguments.command, Path(directory))
    half_way = [screen for screen in screens if BUSY in screen]
    shown = [f"$ {shlex.join(arguments.command)}", screens[-1]]
    if half_way:
        shown[1:1] = [half_way[len(half_way) // 2], "", "      ⋮", ""]
    picture = draw("\n".join(shown))
    arguments.output.write_text(picture)
    sys.stdout.write(f"wrote {arguments.output} ({len(picture)} bytes)\n")


def show(command: list[str], home: Path) -> list[str]:
    """Run a command in a terminal of its own; return its screens in time, with their colours.

    Its data go below an empty directory, so that the picture is that of a first run.
    """
    tmux = ["tmux", "-S", str(home / "tmux"), "-f", "/dev/null"]
    settings = f"GRAPEVINE_PEER_DATA_DIR={home} PATH={Path(sys.executable).parent}:$PATH"
    # The signal comes after whatever the command prints; then the screen waits to be read.
    script = f"{settings} {shlex.join(command)}; {shlex.join(tmux)} wait-for -S finished; cat"
    screens = []
    size = ["-x", str(COLUMNS), "-y", str(ROWS)]
    try:
        subprocess.run([*tmux, "new-session", "-d", *size, script], check=True)
        with subprocess.Popen([*tmux, "wait-for", "finished"]) as finished:
            deadline = time.monotonic() + TIMEOUT_S
            while finished.poll() is None and time.monotonic() < deadline:
                screens.append(_capture(tmux))
                time.sleep(LOOK_S)
            finished.terminate()
        screens.append(_capture(tmux))
    finally:
        subprocess.run([*tmux, "kill-server"], check=False)
    return screens


def _capture(tmux: list[str]) -> str:
    command = [*tmux, "capture-pane", "-e", "-p", "-S", "-"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.rstrip()


def draw(screen: str) -> str:
    """Turn a terminal's text with its escape sequences into an SVG that loads nothing."""
    console = Console(
        record=True,
        width=COLUMNS,
        file=io.StringIO(),
        force_terminal=True,
        color_system="truecolor",
    )
    console.print(Text.from_ansi(screen))
    picture = console.export_svg(title="grapevine", theme=MONOKAI)
    without_fonts = re.sub(r"@font-face\s*{[^}]*}\s*", "", picture)
    lines = (line.rstrip() for line in without_fonts.splitlines())
    return "\n".join(line for line in lines if line) + "\n"


if __name__ == "__main__":
    main()
