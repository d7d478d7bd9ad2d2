"""ffmpeg that takes its time, so that an encode has a middle on a machine of any speed."""

from __future__ import annotations

import shlex

PACED = """\
#!/bin/sh
# ffmpeg, which reads what it encodes as fast as it would be played.
case " $* " in
    *" -i "*) exec {ffmpeg} -re "$@" ;;
esac
exec {ffmpeg} "$@"
"""


def paced(ffmpeg: str) -> str:
    """The text of a program to be named in its place."""
    return PACED.format(ffmpeg=shlex.quote(ffmpeg))
