"""What the operating system says about a file, in the words and codes that all stores use."""

from __future__ import annotations

import errno

BROKEN = frozenset({errno.EIO, errno.EROFS, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT})
"""What a disk says that has failed or gone away: everybody's problem, not this object's."""

CODES = {
    errno.ENOENT: ("no_such_file", "the local file, or its folder, does not exist"),
    errno.ENOSPC: ("disk_full", "the disk is full"),
    errno.EDQUOT: ("disk_full", "the disk quota is used up"),
    errno.EFBIG: ("file_too_large", "the file is larger than the file system or a limit allows"),
    errno.EACCES: ("permission_denied", "permission denied"),
    errno.EPERM: ("permission_denied", "permission denied"),
    errno.EEXIST: ("target_exists", "the local file exists already"),
    errno.EISDIR: ("not_a_file", "there is a folder, or something else that is not a file"),
    errno.ENOTDIR: ("not_a_file", "a part of its path is not a folder"),
    errno.ELOOP: ("symbolic_link", "its path holds a symbolic link, which is never followed"),
}
PERMANENT = frozenset({"not_a_file", "symbolic_link"})
"""What no retry changes, because it is how the folders are."""


def explain(error: OSError) -> tuple[str, str]:
    """A code for scripts and tests, and a reason for people."""
    return CODES.get(error.errno or 0, ("io_error", error.strerror or str(error)))
