"""Draw the README's picture: what `peerctl demo` really printed, in a real terminal.

tmux is the terminal, so that the bars that were drawn over each other end up as a person sees them;
rich turns its screen into an SVG. A recording that plays would show more, but a file of it weighs
megabytes, and a still picture can be read.
"""

from __future__ import annotations

import argparse
import io
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

ROOT = Path(__file__).parents[1]
COLUMNS, ROWS = 100, 45
TIMEOUT_S = 300


def main() -> None:
    """Run the demo, or any other command, and write the picture."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--output", type=Path, default=ROOT / ".github" / "demo.svg")
    parser.add_argument("command", nargs="*", default=["peerctl", "demo"])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="grapevine-") as directory:
        # As root, the database server runs as another user, who must get through.
        Path(directory).chmod(0o711)
        screen = show(arguments.command, Path(directory))
    picture = draw(f"$ {shlex.join(arguments.command)}\n{screen}")
    arguments.output.write_text(picture)
    sys.stdout.write(f"wrote {arguments.output} ({len(picture)} bytes)\n")


def show(command: list[str], home: Path) -> str:
    """Run a command in a terminal of its own; return the screen it left, with its colours.

    Its data go below an empty home, so that the picture is that of a first run.
    """
    tmux = ["tmux", "-S", str(home / "tmux"), "-f", "/dev/null"]
    settings = f"HOME={home} XDG_DATA_HOME={home} PATH={Path(sys.executable).parent}:$PATH"
    # The marker comes after whatever the command prints; then the screen waits to be read.
    script = f"{settings} {shlex.join(command)}; {shlex.join(tmux)} wait-for -S finished; cat"
    try:
        subprocess.run(
            [*tmux, "new-session", "-d", "-x", str(COLUMNS), "-y", str(ROWS), script], check=True
        )
        subprocess.run([*tmux, "wait-for", "finished"], check=True, timeout=TIMEOUT_S)
        captured = subprocess.run(
            [*tmux, "capture-pane", "-e", "-p", "-S", "-"],
            check=True,
            capture_output=True,
            text=True,
        )
    finally:
        subprocess.run([*tmux, "kill-server"], check=False)
    return captured.stdout.rstrip()


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
