# SPDX-License-Identifier: Apache-2.0
"""A root file system in the making: files on disk, their owners and modes beside them.

Build tasks run as one unprivileged user in a user namespace where other owners do not exist, so ownership
never lives on the build host's disk: it is carried in tar headers and in :attr:`Tree.attributes`.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import translate
from pathlib import Path
from typing import IO, Any

from fleetbuild import BuildError

# Extended attributes in pax headers, as star, GNU tar, libarchive and mksquashfs name them. Values may be any
# bytes; tarfile writes text and turns these back into the bytes they stand for.
_XATTR = "SCHILY.xattr."
_MOST_LINKS = 40  # as many as Linux follows, path_resolution(7)


@dataclass(frozen=True)
class Attributes:
    """Owner, group (numbers), permission bits (07777) and extended attributes of one file.

    Without a mode, folders and what can be executed get 0755, other files 0644.
    """

    uid: int = 0
    gid: int = 0
    mode: int | None = None
    xattrs: Mapping[str, bytes] = field(default_factory=dict)


class Tree:
    """A file tree below ``root``; paths are relative to it, without a leading slash.

    Names that lead through links mean what they mean on the board, where ``root`` is /: with a merged /usr,
    ``lib/x`` and ``usr/lib/x`` are one file, and a link to /run leads to ``run``, never to the build host's.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.attributes: dict[str, Attributes] = {}

    def resolve(self, name: str, *, follow: bool = False) -> str:
        """Return ``name`` with the links in its folder part followed, and with ``follow`` the last one, too.

        Raises BuildError for a name that leads out of the tree and for links in a circle.
        """
        done: list[str] = []
        todo = name.split("/")[::-1]
        links = 0
        while todo:
            part = todo.pop()
            if part in {"", "."}:
                continue
            if part == "..":
                if not done:
                    raise BuildError(f"{name}: leads out of the file tree")
                done.pop()
                continue
            # Strings, because this runs for every part of every name.
            path = os.path.join(self.root, *done, part)  # noqa: PTH118
            if (todo or follow) and os.path.islink(path):  # noqa: PTH114
                links += 1
                if links > _MOST_LINKS:
                    raise BuildError(f"{name}: its links lead in a circle")
                target = os.readlink(path)  # noqa: PTH115
                if target.startswith("/"):
                    done.clear()
                todo += target.split("/")[::-1]
            else:
                done.append(part)
        return "/".join(done)

    def has(self, name: str) -> bool:
        """Say whether there is a file, folder or link of this name."""
        return os.path.lexists(self.root / self.resolve(name))

    def file(self, name: str) -> Path | None:
        """Return where a file lies on the build host's disk, all links followed; None when there is none."""
        path = self.root / self.resolve(name, follow=True)
        return path if path.is_file() else None

    def add_tar(self, tar: tarfile.TarFile) -> list[str]:
        """Unpack a tar archive over the tree, remember owners and modes, return the paths of its files.

        A folder that is there already, also as a link to one (merged /usr), stays as it is: who brought it
        first decides about its owner and mode. Hard links become files of their own. Raises BuildError for
        devices (the kernel makes them), for a member that leads out of the tree, and for one that would put a
        folder in the place of a file or the other way round.
        """
        paths = []
        for member in tar:
            if ".." in member.name.split("/"):
                raise BuildError(f"{member.name}: leads out of the file tree")
            try:
                name = self._add(tar, member)
            except OSError as error:
                raise BuildError(f"cannot unpack {member.name}: {error.strerror}") from None
            if name and not member.isdir():
                paths.append(name)
        return paths

    def _add(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> str:
        """Unpack one member and return its name in the tree."""
        name = self.resolve(member.name, follow=member.isdir())
        path = self.root / name
        xattrs = {
            key.removeprefix(_XATTR): value.encode("utf-8", "surrogateescape")
            for key, value in member.pax_headers.items()
            if key.startswith(_XATTR)
        }
        attributes = Attributes(member.uid, member.gid, member.mode & 0o7777, xattrs)
        if member.isdir():
            if name:
                path.mkdir(parents=True, exist_ok=True)
                self.attributes.setdefault(name, attributes)
            return name
        if not (member.isreg() or member.issym() or member.islnk()):
            raise BuildError(f"{member.name}: archives may hold files, folders and links only")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        if member.isreg():
            source = tar.extractfile(member)
            assert source is not None
            with path.open("wb") as target:
                shutil.copyfileobj(source, target)
        elif member.issym():
            path.symlink_to(member.linkname)
        else:
            original = self.resolve(member.linkname)
            shutil.copy(self.root / original, path, follow_symlinks=False)
            attributes = self.attributes.get(original, attributes)
        self.attributes[name] = attributes
        return name

    def link(self, name: str, target: str) -> None:
        """Make a link, in the place of a file or link that may be there."""
        name = self.resolve(name)
        path = self.root / name
        if path.is_dir() and not path.is_symlink():
            raise BuildError(f"{name}: is a folder, so no link can be made there")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.symlink_to(target)
        self.attributes.pop(name, None)

    def remove(self, patterns: Iterable[str]) -> list[str]:
        """Delete what matches one of the patterns (``*`` matches across slashes); return unused patterns.

        A folder goes with all it holds.
        """
        wanted = {
            pattern: re.compile(f"{translate(pattern)}|{re.escape(pattern.rstrip('/'))}/")
            for pattern in patterns
        }
        if not wanted:
            return []
        some = re.compile("|".join(expression.pattern for expression in wanted.values()))
        used: set[str] = set()
        for name in list(self.paths()):
            if not some.match(name):
                continue
            used.update(pattern for pattern, expression in wanted.items() if expression.match(name))
            path = self.root / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        self.attributes = {
            name: value for name, value in self.attributes.items() if os.path.lexists(self.root / name)
        }
        return [pattern for pattern in wanted if pattern not in used]

    def set(self, name: str, **changes: Any) -> None:
        """Change attributes of one path: ``uid``, ``gid``, ``mode``, ``xattrs``."""
        name = self.resolve(name)
        self.attributes[name] = replace(self.attributes.get(name, Attributes()), **changes)

    def paths(self) -> Iterator[str]:
        """Yield all paths in a stable order, folders before what they hold."""

        def walk(folder: str) -> Iterator[str]:
            with os.scandir(self.root / folder) as entries:
                found = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
            for base, is_folder in found:
                name = f"{folder}/{base}" if folder else base
                yield name
                if is_folder:
                    yield from walk(name)

        return walk("")

    def write_tar(self, stream: IO[bytes], mtime: int) -> None:
        """Write the tree as a reproducible tar archive: sorted, owners from the attributes, one mtime (s).

        The top folder itself is not in it. Raises BuildError for devices, pipes and sockets.
        """
        with tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT, encoding="utf-8") as tar:
            for name in self.paths():
                path = self.root / name
                status = path.lstat()
                have = self.attributes.get(name, Attributes())
                info = tarfile.TarInfo("./" + name)
                info.uid, info.gid, info.mtime = have.uid, have.gid, mtime
                info.pax_headers = {
                    _XATTR + key: value.decode("utf-8", "surrogateescape")
                    for key, value in sorted(have.xattrs.items())
                }
                if stat.S_ISLNK(status.st_mode):
                    # Not Path.readlink(): that changes the text, "./x" to "x".
                    info.linkname = os.readlink(path)  # noqa: PTH115
                    info.type, info.mode = tarfile.SYMTYPE, 0o777
                    tar.addfile(info)
                elif stat.S_ISDIR(status.st_mode):
                    info.type, info.mode = tarfile.DIRTYPE, 0o755 if have.mode is None else have.mode
                    tar.addfile(info)
                elif stat.S_ISREG(status.st_mode):
                    default = 0o755 if status.st_mode & 0o111 else 0o644
                    info.size, info.mode = status.st_size, default if have.mode is None else have.mode
                    with path.open("rb") as data:
                        tar.addfile(info, data)
                else:
                    raise BuildError(f"{path}: an image may hold files, folders and links only")
