# SPDX-License-Identifier: Apache-2.0
"""A root file system in the making: files on disk, their owners and modes beside them.

Build tasks run as one unprivileged user in a user namespace where other owners do not exist, so ownership
never lives on the build host's disk: it is carried in tar headers and in :attr:`Tree.attributes`.
"""

from __future__ import annotations

import os
import shutil
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO

from fleetbuild import BuildError

_XATTR = "SCHILY.xattr."


@dataclass(frozen=True)
class Attributes:
    """Owner, group (numbers), permission bits (07777) and extended attributes of one file."""

    uid: int = 0
    gid: int = 0
    mode: int | None = None
    xattrs: Mapping[str, str] = field(default_factory=dict)


class Tree:
    """A file tree below ``root``; paths are relative to it, without a leading slash."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.attributes: dict[str, Attributes] = {}
        self._folders: dict[str, str] = {}

    def add_tar(self, tar: tarfile.TarFile) -> list[str]:
        """Unpack a tar archive over the tree, remember owners and modes, return the paths of its files.

        A folder in the archive does not replace a link to a folder in the tree (merged /usr). Devices are
        refused: the kernel makes them.
        """
        paths = []
        for member in tar:
            name = self._resolve(member.name.removeprefix("./").strip("/"))
            if not name:
                continue
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if member.isdir():
                if path.is_symlink() and path.is_dir():
                    continue
                path.mkdir(exist_ok=True)
            elif member.issym():
                path.unlink(missing_ok=True)
                path.symlink_to(member.linkname)
            elif member.islnk():
                path.unlink(missing_ok=True)
                os.link(self.root / self._resolve(member.linkname.removeprefix("./")), path)
            elif member.isreg():
                path.unlink(missing_ok=True)
                source = tar.extractfile(member)
                assert source is not None
                with path.open("wb") as target:
                    shutil.copyfileobj(source, target)
                path.chmod(0o755 if member.mode & 0o111 else 0o644)
            else:
                raise BuildError(f"{member.name}: archives may hold files, folders and links only")
            xattrs = {
                k.removeprefix(_XATTR): v for k, v in member.pax_headers.items() if k.startswith(_XATTR)
            }
            self.attributes[name] = Attributes(member.uid, member.gid, member.mode & 0o7777, xattrs)
            if not member.isdir():
                paths.append(name)
        return paths

    def _resolve(self, name: str) -> str:
        """Return ``name`` with links in its folder part followed, so that /lib/x and /usr/lib/x are one file."""
        folder, _, base = name.rpartition("/")
        if folder not in self._folders:
            top, real = self.root.resolve(), (self.root / folder).resolve()
            if not real.is_relative_to(top):
                raise BuildError(f"{name}: leads out of the file tree")
            relative = str(real.relative_to(top))
            self._folders[folder] = "" if relative == "." else f"{relative}/"
        return self._folders[folder] + base

    def remove(self, patterns: Iterable[str]) -> list[str]:
        """Delete what matches one of the patterns (``*`` matches across slashes); return unused patterns."""
        wanted = list(patterns)
        used = set()
        for name in list(self.paths()):
            pattern = next(
                (p for p in wanted if fnmatchcase(name, p) or name.startswith(p.rstrip("/") + "/")), None
            )
            if pattern is None:
                continue
            used.add(pattern)
            path = self.root / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
            for gone in [key for key in self.attributes if key == name or key.startswith(name + "/")]:
                del self.attributes[gone]
        return [pattern for pattern in wanted if pattern not in used]

    def set(self, name: str, **changes: object) -> None:
        """Change attributes of one path: uid, gid, mode, xattrs."""
        self.attributes[name] = replace(self.attributes.get(name, Attributes()), **changes)  # type: ignore[arg-type]

    def paths(self) -> Iterator[str]:
        """Yield all paths in a stable order, folders before what they hold."""

        def walk(folder: str) -> Iterator[str]:
            entries = sorted(os.scandir(self.root / folder), key=lambda entry: entry.name)
            for entry in entries:
                name = f"{folder}/{entry.name}" if folder else entry.name
                yield name
                if entry.is_dir(follow_symlinks=False) and (self.root / name).is_dir():
                    yield from walk(name)

        return walk("")

    def write_tar(self, stream: IO[bytes], mtime: int, mtimes: Callable[[str], int] | None = None) -> None:
        """Write the tree as a reproducible tar archive: sorted, owners from the attributes, one mtime (s)."""
        with tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT) as tar:
            top = tarfile.TarInfo(".")
            top.type, top.mode, top.mtime = tarfile.DIRTYPE, 0o755, mtime
            tar.addfile(top)
            for name in self.paths():
                path = self.root / name
                info = tarfile.TarInfo("./" + name)
                have = self.attributes.get(name, Attributes())
                info.uid, info.gid = have.uid, have.gid
                info.mtime = mtimes(name) if mtimes else mtime
                info.pax_headers = {_XATTR + key: value for key, value in have.xattrs.items()}
                if path.is_symlink():
                    info.type, info.linkname, info.mode = tarfile.SYMTYPE, str(path.readlink()), 0o777
                    tar.addfile(info)
                elif path.is_dir():
                    info.type, info.mode = tarfile.DIRTYPE, 0o755 if have.mode is None else have.mode
                    tar.addfile(info)
                else:
                    stat = path.stat()
                    default = 0o755 if stat.st_mode & 0o111 else 0o644
                    info.size, info.mode = stat.st_size, default if have.mode is None else have.mode
                    with path.open("rb") as data:
                        tar.addfile(info, data)
