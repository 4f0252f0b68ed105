"""Recognise network file systems. SQLite's write-ahead log needs memory that processes share."""

from __future__ import annotations

import re
from pathlib import Path

#: The table of mounts of this process, on Linux; other systems have none.
MOUNTS = Path("/proc/self/mountinfo")

_OF_NETWORKS = {
    *("9p", "afs", "beegfs", "ceph", "cifs", "glusterfs", "gpfs", "lustre", "nfs", "nfs4"),
    *("smb2", "smb3", "smbfs"),
    *("fuse.ceph", "fuse.glusterfs", "fuse.s3fs", "fuse.sshfs"),
}
#: A space, tab, line feed or backslash in a path.
_ESCAPE = re.compile(r"\\([0-7]{3})")


def network_file_system(path: Path, mounts: Path = MOUNTS) -> str | None:
    """Return the type of the network file system that holds `path`; None if it is a local one."""
    if not mounts.exists():
        return None
    found, longest = None, -1
    for line in mounts.read_text(errors="surrogateescape").splitlines():
        before, _, after = line.partition(" - ")
        place = Path(_ESCAPE.sub(lambda octal: chr(int(octal[1], 8)), before.split(" ")[4]))
        # A later mount hides an earlier one at the same place.
        if path.is_relative_to(place) and len(place.parts) >= longest:
            found, longest = after.split(" ")[0], len(place.parts)
    return found if found in _OF_NETWORKS else None
