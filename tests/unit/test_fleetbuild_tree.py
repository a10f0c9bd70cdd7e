# SPDX-License-Identifier: Apache-2.0
"""The tree: archives in and out, names that go through links, what is refused."""

import io
import os
import random
import socket
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetbuild import BuildError
from fleetbuild.tree import Attributes, Tree

MTIME = 1700000000
XATTR = "SCHILY.xattr."


@dataclass(frozen=True)
class Entry:
    """One member of an archive; ``data`` is a file's bytes, ``link`` a link's text, neither is a folder."""

    data: bytes | None = None
    link: str | None = None
    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    xattrs: Mapping[str, bytes] = field(default_factory=dict)


def packed(entries: Mapping[str, Entry]) -> tarfile.TarFile:
    """Return an archive of the entries in their order, open for reading."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, entry in entries.items():
            info = tarfile.TarInfo(f"./{name}")
            info.uid, info.gid, info.mode = entry.uid, entry.gid, entry.mode
            info.pax_headers = {
                XATTR + key: value.decode("utf-8", "surrogateescape") for key, value in entry.xattrs.items()
            }
            if entry.data is not None:
                info.size = len(entry.data)
            elif entry.link is not None:
                info.type, info.linkname = tarfile.SYMTYPE, entry.link
            else:
                info.type = tarfile.DIRTYPE
            tar.addfile(info, io.BytesIO(entry.data or b""))
    stream.seek(0)
    return tarfile.open(fileobj=stream)


def member(name: str, kind: bytes, linkname: str = "") -> tarfile.TarFile:
    """Return an archive with one member of any kind."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, linkname
        tar.addfile(info)
    stream.seek(0)
    return tarfile.open(fileobj=stream)


def written(tree: Tree) -> bytes:
    stream = io.BytesIO()
    tree.write_tar(stream, MTIME)
    return stream.getvalue()


def unpacked(archive: bytes) -> dict[str, Entry]:
    """Read an archive that a tree wrote."""
    entries = {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for info in tar:
            assert info.mtime == MTIME
            assert (info.uname, info.gname) == ("", "")
            xattrs = {
                key.removeprefix(XATTR): value.encode("utf-8", "surrogateescape")
                for key, value in info.pax_headers.items()
                if key.startswith(XATTR)
            }
            source = tar.extractfile(info) if info.isreg() else None
            entries[info.name.removeprefix("./")] = Entry(
                source.read() if source else None,
                info.linkname if info.issym() else None,
                info.mode,
                info.uid,
                info.gid,
                xattrs,
            )
    return entries


@contextmanager
def umask(value: int) -> Iterator[None]:
    before = os.umask(value)
    try:
        yield
    finally:
        os.umask(before)


# Any bytes but NUL and "/" may be in a name; those that are no text are surrogates in Python.
_letters = st.one_of(
    st.characters(exclude_categories=["Cs"], exclude_characters="/\0"),
    st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF),
)
_names = (
    st.text(_letters, min_size=1, max_size=12)
    # What surrogates and other letters spell together must be the one reading of those bytes.
    .map(lambda name: os.fsdecode(os.fsencode(name)))
    .filter(lambda name: name not in {".", ".."})
)
_modes = st.integers(0, 0o7777)
_numbers = st.one_of(st.integers(0, 65535), st.integers(0, 2**31))
_xattrs = st.dictionaries(
    st.sampled_from(["security.capability", "user.a", "user.b"]), st.binary(max_size=40)
)
_owned: dict[str, Any] = {"mode": _modes, "uid": _numbers, "gid": _numbers}
_files = st.builds(Entry, data=st.binary(max_size=2000), xattrs=_xattrs, **_owned)
_links = st.builds(
    Entry, link=_names.map(lambda name: f"./{name}//x/"), mode=st.just(0o777), uid=_numbers, gid=_numbers
)


@st.composite
def trees(draw: st.DrawFn) -> dict[str, Entry]:
    """Some entries with all their folders before them."""
    entries: dict[str, Entry] = {}
    folders = [""]
    for _ in range(draw(st.integers(0, 8))):
        name = draw(st.sampled_from(folders)) + draw(_names)
        if name in entries:
            continue
        if draw(st.booleans()):
            entries[name] = draw(st.builds(Entry, xattrs=_xattrs, **_owned))
            folders.append(f"{name}/")
        else:
            entries[name] = draw(st.one_of(_files, _links))
    return entries


@given(trees())
@settings(deadline=None)
def test_what_goes_in_comes_out(entries: dict[str, Entry]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        tree = Tree(Path(folder))
        paths = tree.add_tar(packed(entries))
        assert set(paths) == {
            name for name, entry in entries.items() if entry.data is not None or entry.link is not None
        }
        assert unpacked(written(tree)) == entries
        assert list(tree.paths()) == list(unpacked(written(tree)))


@given(trees(), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=40)
def test_the_bytes_depend_on_contents_alone(entries: dict[str, Entry], order: random.Random) -> None:
    """Not on the order of creation, the umask, the dates on disk or how often it is written."""
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        first, second = Tree(Path(one)), Tree(Path(two))
        first.add_tar(packed(entries))
        shuffled = list(entries)
        order.shuffle(shuffled)
        shuffled.sort(key=lambda name: name.count("/"))
        with umask(0o077):
            second.add_tar(packed({name: entries[name] for name in shuffled}))
        for name in second.paths():
            os.utime(second.root / name, (1, 1), follow_symlinks=False)
        assert written(first) == written(second) == written(second)


def test_extended_attributes_are_sorted(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    tree = Tree(tmp_path)
    tree.set("f", xattrs={"user.b": b"2", "user.a": b"1"})
    other = Tree(tmp_path)
    other.set("f", xattrs={"user.a": b"1", "user.b": b"2"})
    assert written(tree) == written(other)


def test_the_seed_of_pythons_hashes_plays_no_part(tmp_path: Path) -> None:
    program = (
        "import hashlib, io, sys; from pathlib import Path; from fleetbuild.tree import Tree\n"
        "tree = Tree(Path(sys.argv[1]))\n"
        "for n in 'abcdefgh':\n"
        "    (tree.root / n).touch(); tree.set(n, xattrs={f'user.{x}': b'1' for x in {*'xyz', n}})\n"
        "out = io.BytesIO(); tree.write_tar(out, 1); print(hashlib.sha256(out.getvalue()).hexdigest())\n"
    )
    library = str(Path(__file__).parents[2] / "meta-fleet/core/lib")
    results = {
        subprocess.run(
            [sys.executable, "-c", program, tmp_path],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": library},
            check=True,
            capture_output=True,
        ).stdout
        for seed in ("0", "1", "2", "3")
    }
    assert len(results) == 1


def test_without_attributes_files_are_roots_and_only_the_right_to_execute_counts(tmp_path: Path) -> None:
    for name, mode in (("tool", 0o700), ("text", 0o600), ("odd", 0o666)):
        (tmp_path / name).touch()
        (tmp_path / name).chmod(mode)
    (tmp_path / "folder").mkdir(mode=0o700)
    modes = {name: (entry.mode, entry.uid) for name, entry in unpacked(written(Tree(tmp_path))).items()}
    assert modes == {"tool": (0o755, 0), "text": (0o644, 0), "odd": (0o644, 0), "folder": (0o755, 0)}


class TestNames:
    """On a merged /usr ``lib`` is a link to ``usr/lib``."""

    @pytest.fixture
    def tree(self, tmp_path: Path) -> Tree:
        root = tmp_path / "root"
        (root / "usr/lib").mkdir(parents=True)
        (root / "lib").symlink_to("usr/lib")
        return Tree(root)

    def test_files_below_a_link_lie_where_it_leads(self, tree: Tree) -> None:
        paths = tree.add_tar(
            packed({"lib": Entry(uid=7), "lib/sub": Entry(uid=8), "lib/sub/x": Entry(b"1", uid=9)})
        )
        assert paths == ["usr/lib/sub/x"]
        assert (tree.root / "lib").is_symlink()
        entries = unpacked(written(tree))
        assert entries["lib"] == Entry(link="usr/lib", mode=0o777)
        assert (entries["usr/lib/sub"].uid, entries["usr/lib/sub/x"].uid) == (8, 9)

    def test_both_names_are_one_file(self, tree: Tree) -> None:
        tree.add_tar(packed({"lib/x": Entry(b"old", uid=1)}))
        tree.add_tar(packed({"usr/lib/x": Entry(b"new", uid=2)}))
        tree.set("lib/x", mode=0o600)
        assert unpacked(written(tree))["usr/lib/x"] == Entry(b"new", uid=2, mode=0o600)
        assert tree.has("lib/x")
        assert tree.resolve("lib/x") == "usr/lib/x"

    def test_an_absolute_link_leads_to_the_boards_folder_not_to_the_hosts(
        self, tree: Tree, tmp_path: Path
    ) -> None:
        outside = tmp_path / "outside"
        outside.mkdir()
        (tree.root / "var").mkdir()
        (tree.root / "var/run").symlink_to(outside)
        tree.add_tar(packed({"var/run": Entry(), "var/run/pid": Entry(b"1")}))
        assert list(outside.iterdir()) == []
        assert (tree.root / "var/run").is_symlink()
        name = str(outside).lstrip("/") + "/pid"
        assert (tree.root / name).read_bytes() == b"1"
        assert tree.file("var/run/pid") == tree.root / name

    def test_a_file_of_the_host_is_not_a_file_of_the_tree(self, tree: Tree, tmp_path: Path) -> None:
        (tmp_path / "secret").write_text("host")
        (tree.root / "a").symlink_to(tmp_path / "secret")
        assert tree.has("a")
        assert tree.file("a") is None

    def test_links_may_lead_through_links(self, tree: Tree) -> None:
        (tree.root / "one").symlink_to("./two/.//")
        (tree.root / "two").symlink_to("/lib/../lib")
        assert tree.resolve("one/x") == "usr/lib/x"
        assert tree.resolve("one") == "one"
        assert tree.resolve("one", follow=True) == "usr/lib"
        assert tree.resolve("") == tree.resolve("./") == ""

    @pytest.mark.parametrize("name", ["..", "../x", "a/../../x", "usr/../x", "/../x", "usr/lib/.."])
    def test_a_member_that_leads_out_is_refused(self, name: str, tree: Tree, tmp_path: Path) -> None:
        for kind in (tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE):
            with pytest.raises(BuildError, match="leads out of the file tree"):
                tree.add_tar(member(name, kind, "x"))
        assert {path.name for path in tmp_path.iterdir()} == {"root"}

    def test_a_member_below_a_link_that_leads_out_is_refused(self, tree: Tree, tmp_path: Path) -> None:
        with pytest.raises(BuildError, match=r"^\./out/x: leads out of the file tree"):
            tree.add_tar(packed({"out": Entry(link="lib/../../../.."), "out/x": Entry(b"1")}))
        assert not (tmp_path / "x").exists()

    def test_a_hard_link_that_leads_out_is_refused(self, tree: Tree, tmp_path: Path) -> None:
        (tmp_path / "secret").write_text("host")
        with pytest.raises(BuildError, match="leads out of the file tree"):
            tree.add_tar(member("x", tarfile.LNKTYPE, "../secret"))

    def test_a_hard_link_to_a_link_does_not_bring_in_a_file_of_the_host(
        self, tree: Tree, tmp_path: Path
    ) -> None:
        (tmp_path / "secret").write_text("host")
        (tree.root / "a").symlink_to(tmp_path / "secret")
        tree.add_tar(member("b", tarfile.LNKTYPE, "./a"))
        assert unpacked(written(tree))["b"].link == str(tmp_path / "secret")

    def test_links_in_a_circle_are_refused(self, tree: Tree) -> None:
        (tree.root / "a").symlink_to("b")
        (tree.root / "b").symlink_to("a")
        with pytest.raises(BuildError, match=r"^\./a/x: its links lead in a circle"):
            tree.add_tar(packed({"a/x": Entry(b"")}))

    def test_a_name_from_the_top_is_one_of_the_tree(self, tree: Tree) -> None:
        assert tree.add_tar(member("/lib/x", tarfile.REGTYPE)) == ["usr/lib/x"]


class TestArchives:
    @pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
    def test_devices_and_pipes_are_refused(self, kind: bytes, tmp_path: Path) -> None:
        (tmp_path / "x").write_text("stays")
        with pytest.raises(BuildError, match=r"^x: archives may hold files, folders and links only"):
            Tree(tmp_path).add_tar(member("x", kind))
        assert (tmp_path / "x").read_text() == "stays"

    def test_a_pipe_or_socket_in_the_tree_is_refused(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(BuildError, match=r"pipe: an image may hold files, folders and links only"):
            written(Tree(tmp_path))
        (tmp_path / "pipe").unlink()
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(tmp_path / "s"))
            with pytest.raises(BuildError, match=r"s: an image may hold"):
                written(Tree(tmp_path))

    def test_the_later_file_wins_with_its_attributes(self, tmp_path: Path) -> None:
        tree = Tree(tmp_path)
        tree.add_tar(
            packed({"f": Entry(b"old", mode=0o4755, uid=5, xattrs={"user.a": b"1"}), "l": Entry(b"x")})
        )
        tree.add_tar(packed({"f": Entry(b"new", mode=0o600), "l": Entry(link="f", mode=0o777)}))
        assert unpacked(written(tree)) == {"f": Entry(b"new", mode=0o600), "l": Entry(link="f", mode=0o777)}

    def test_the_first_to_bring_a_folder_decides_about_it(self, tmp_path: Path) -> None:
        tree = Tree(tmp_path)
        tree.add_tar(packed({"tmp": Entry(mode=0o1777), "tmp/a": Entry(b"")}))
        tree.add_tar(packed({"tmp": Entry(mode=0o700, uid=3), "tmp/b": Entry(b"")}))
        assert unpacked(written(tree))["tmp"] == Entry(mode=0o1777)
        assert set(unpacked(written(tree))) == {"tmp", "tmp/a", "tmp/b"}

    def test_folders_that_no_archive_names_are_made(self, tmp_path: Path) -> None:
        tree = Tree(tmp_path)
        with umask(0o077):
            tree.add_tar(packed({"a/b/c": Entry(b"", mode=0o644)}))
        assert unpacked(written(tree)) == {
            "a": Entry(),
            "a/b": Entry(),
            "a/b/c": Entry(b"", mode=0o644),
        }

    @pytest.mark.parametrize(
        ("first", "then"),
        [
            ({"x": Entry()}, {"x": Entry(b"")}),
            ({"x": Entry()}, {"x": Entry(link="y")}),
            ({"x": Entry(b"")}, {"x": Entry()}),
            ({"x": Entry(b"")}, {"x/y": Entry(b"")}),
        ],
    )
    def test_a_folder_and_a_file_do_not_take_each_others_place(
        self, first: dict[str, Entry], then: dict[str, Entry], tmp_path: Path
    ) -> None:
        tree = Tree(tmp_path)
        tree.add_tar(packed(first))
        with pytest.raises(BuildError, match=r"^cannot unpack \./x"):
            tree.add_tar(packed(then))

    def test_hard_links_become_files_of_their_own(self, tmp_path: Path) -> None:
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
            info = tarfile.TarInfo("./a")
            info.size, info.mode, info.uid, info.pax_headers = 3, 0o4711, 7, {XATTR + "user.x": "1"}
            tar.addfile(info, io.BytesIO(b"abc"))
            other = tarfile.TarInfo("./b")
            other.type, other.linkname = tarfile.LNKTYPE, "./a"
            tar.addfile(other)
        stream.seek(0)
        tree = Tree(tmp_path)
        # As a stream, like a package is read.
        with tarfile.open(fileobj=stream, mode="r|") as tar:
            assert tree.add_tar(tar) == ["a", "b"]
        expected = Entry(b"abc", mode=0o4711, uid=7, xattrs={"user.x": b"1"})
        assert unpacked(written(tree)) == {"a": expected, "b": expected}
        (tmp_path / "a").write_text("changed")
        assert (tmp_path / "b").read_text() == "abc"

    def test_a_hard_link_to_nothing_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(BuildError, match=r"^cannot unpack x: No such file or directory"):
            Tree(tmp_path).add_tar(member("x", tarfile.LNKTYPE, "y"))

    def test_the_text_of_a_link_is_kept_to_the_letter(self, tmp_path: Path) -> None:
        tree = Tree(tmp_path)
        texts = ["./a", "a//b", "a/", "../..", "/", "\udc80"]
        tree.add_tar(packed({str(number): Entry(link=text) for number, text in enumerate(texts)}))
        assert [entry.link for entry in unpacked(written(tree)).values()] == texts


class TestChanges:
    @pytest.fixture
    def tree(self, tmp_path: Path) -> Tree:
        tree = Tree(tmp_path)
        names = ["etc/a.conf", "etc/b.conf", "usr/share/doc/x/y", "usr/share/docs", "usr/share/[z]"]
        tree.add_tar(packed({name: Entry(name.encode(), uid=1, mode=0o644) for name in names}))
        return tree

    def files(self, tree: Tree) -> set[str]:
        return {name for name, entry in unpacked(written(tree)).items() if entry.data is not None}

    @pytest.mark.parametrize(
        ("pattern", "gone"),
        [
            ("usr/share/doc", {"usr/share/doc/x/y"}),
            ("usr/share/doc/", {"usr/share/doc/x/y"}),
            ("usr/share/doc*", {"usr/share/doc/x/y", "usr/share/docs"}),
            ("*.conf", {"etc/a.conf", "etc/b.conf"}),
            ("etc/?.conf", {"etc/a.conf", "etc/b.conf"}),
            ("usr/*y", {"usr/share/doc/x/y"}),
            ("usr/share/[[]z]", {"usr/share/[z]"}),
        ],
    )
    def test_remove(self, pattern: str, gone: set[str], tree: Tree) -> None:
        before = self.files(tree)
        assert tree.remove([pattern]) == []
        assert before - self.files(tree) == gone
        assert set(tree.attributes) == self.files(tree)

    def test_remove_tells_what_matches_nothing(self, tree: Tree) -> None:
        assert tree.remove(["none", "usr", "usr/share/doc", "etc/a", "*.conf"]) == ["none", "etc/a"]
        assert self.files(tree) == set()

    def test_remove_nothing(self, tree: Tree) -> None:
        before = written(tree)
        assert tree.remove([]) == []
        assert written(tree) == before

    def test_remove_takes_a_link_and_not_what_it_leads_to(self, tree: Tree) -> None:
        tree.link("link", "etc")
        assert tree.remove(["link"]) == []
        assert "etc/a.conf" in self.files(tree)
        assert not tree.has("link")

    def test_a_link_replaces_a_file_and_forgets_its_attributes(self, tree: Tree) -> None:
        tree.link("etc/a.conf", "/run/a")
        tree.link("new/deep/link", "../x")
        entries = unpacked(written(tree))
        assert entries["etc/a.conf"] == Entry(link="/run/a", mode=0o777)
        assert entries["new/deep/link"] == Entry(link="../x", mode=0o777)
        tree.link("etc/a.conf", "other")
        assert unpacked(written(tree))["etc/a.conf"].link == "other"

    def test_a_link_does_not_replace_a_folder(self, tree: Tree) -> None:
        with pytest.raises(BuildError, match=r"^etc: is a folder"):
            tree.link("etc", "x")

    def test_set_changes_what_it_names(self, tree: Tree) -> None:
        tree.set("etc/a.conf", gid=9)
        assert tree.attributes["etc/a.conf"] == Attributes(uid=1, gid=9, mode=0o644)
        with pytest.raises(TypeError):
            tree.set("etc/a.conf", owner=1)
