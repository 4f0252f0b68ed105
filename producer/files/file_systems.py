"""Recognize network file systems, on which processes of several machines use the same files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

#: The table of mounts of this process, on Linux; other systems have none.
MOUNTS = Path("/proc/self/mountinfo")

_OF_NETWORKS = {
    *("9p", "afs", "beegfs", "ceph", "cifs", "glusterfs", "gpfs", "lustre", "nfs", "nfs4"),
    *("smb2", "smb3", "smbfs"),
    *("fuse.ceph", "fuse.glusterfs", "fuse.s3fs", "fuse.sshfs"),
}
#: Their locks always exclude the processes of other machines.
_LOCKED_EVERYWHERE = {"ceph", "gpfs"}
#: File systems in a process that use the disk of this machine. Any other one may use a network.
_LOCAL_FUSE = {"fuse.fuse-overlayfs", "fuse.mergerfs", "fuse.bindfs"}
#: A space, tab, line feed or backslash in a path.
_ESCAPE = re.compile(r"\\([0-7]{3})")


class _Mount(NamedTuple):
    type: str
    options: list[str]


def network_file_system(path: Path, mounts: Path = MOUNTS) -> str | None:
    """Return the type of the network file system that holds `path`; None if it is a local one."""
    mount = _mount_of(path, mounts)
    return mount.type if mount and mount.type in _OF_NETWORKS else None


def locks_exclude_all(path: Path, mounts: Path = MOUNTS) -> bool:
    """Return whether `flock` on a file at `path` excludes all processes that can write there.

    On some network file systems, it excludes only those of the same machine. If the file system is
    not known, the answer is False.
    """
    mount = _mount_of(path, mounts)
    if mount is None:
        return False
    if mount.type in ("nfs", "nfs4"):
        locks = [each for each in mount.options if each.startswith("local_lock=")]
        return locks in ([], ["local_lock=none"]) and "nolock" not in mount.options
    if mount.type == "lustre":
        return "flock" in mount.options
    if mount.type.startswith("fuse."):
        return mount.type in _LOCAL_FUSE
    return mount.type in _LOCKED_EVERYWHERE or mount.type not in (*_OF_NETWORKS, "virtiofs")


def _mount_of(path: Path, mounts: Path) -> _Mount | None:
    if not mounts.exists():
        return None
    found, longest = None, -1
    for line in mounts.read_text(errors="surrogateescape").splitlines():
        before, _, after = line.partition(" - ")
        place = Path(_ESCAPE.sub(lambda octal: chr(int(octal[1], 8)), before.split(" ")[4]))
        # A later mount hides an earlier one at the same place.
        if path.is_relative_to(place) and len(place.parts) >= longest:
            longest = len(place.parts)
            kind, _, *options = after.split(" ")
            found = _Mount(kind, ",".join((before.split(" ")[5], *options)).split(","))
    return found
