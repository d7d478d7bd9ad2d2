"""What a program may touch that reads files from strangers: its own files, and nobody else.

`limits.py` keeps ffmpeg from being *asked* to open something. This is for the day on which it is no
longer ffmpeg that decides: a decoder with a hole runs what the upload brought, as the peer's own
user, beside the files with the passwords of the database, the queue and the store. So the kernel is
told beforehand what this process will never need:

* calls (`calls.py`, seccomp): no socket, so no network; no look into another process; no
  namespace, mount, key or other rare door of the kernel;
* files (`files.py`, Landlock): the system's programs and libraries and its one source to read, its
  own directory to write, and nothing else: no secret, no workspace of another task. And, from
  kernel 6.12 on, no signal to anybody.

Both can be had by anybody, in any container, without a capability. Namespaces, which sandboxes are
usually made of, cannot: Docker refuses them to who has no capability. A user for each task would
take root to change to.

A kernel before 5.13 has no Landlock, and Docker before 23 may refuse it: then the files are what
the peer's user can read, as they were before. `peerctl doctor` says what holds.
"""

from pipeline.media.confinement.fence import Bounds, Layer, attempt, fenced

__all__ = ["Bounds", "Layer", "attempt", "fenced"]
