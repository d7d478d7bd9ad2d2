"""A process that is a container which a person has started, until it is killed."""

import signal
import sys
from pathlib import Path

from scaling.local.containers import Record
from scaling.local.records import Records

if __name__ == "__main__":
    record = Record(id="founder", name="founder", slot=1, node="worker-1", kept=True)
    with Records(Path(sys.argv[1])).own(record):
        sys.stdout.write("here\n")
        sys.stdout.flush()
        signal.pause()
