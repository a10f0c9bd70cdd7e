# SPDX-License-Identifier: Apache-2.0
"""The package lock: seeds, resolution, closure, the file and what changed in it."""

import contextlib
import hashlib
import json
import runpy
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetbuild import BuildError, indexes, lock
from fleetbuild.deb822 import Stanza
from fleetbuild.lock import Lock, Package, Seeds, Source, SourceFile

SHA = hashlib.sha256(b"").hexdigest()


def package(name: str, *depends: str, version: str = "1") -> Package:
    return Package(name, version, "armhf", name, "debian", f"pool/{name}.deb", SHA, 1, depends)


def locked(*target: Package, **fields: Any) -> Lock:
    groups = {"native": {}, "target": {entry.name: entry for entry in target}}
    empty = Lock(1700000000, {"armhf": "verified, index of 2026-01-01"}, groups, {})
    return replace(empty, **fields)


def stanza(name: str, depends: str = "", **fields: str) -> tuple[str, Stanza]:
    """One package as it stands in an archive index."""
    base = {
        "Package": name,
        "Version": "1.0-1",
        "Architecture": "armhf",
        "Filename": f"pool/main/{name}_1.0-1_armhf.deb",
        "SHA256": SHA,
        "Size": "10",
        "Depends": depends,
    }
    return "debian", {**base, **{key.replace("_", "-"): value for key, value in fields.items()}}


class TestClosure:
    def test_it_is_sorted_and_follows_relations_even_in_a_circle(self) -> None:
        have = locked(package("c", "a"), package("a", "b"), package("b", "c"), package("other"))
        assert [entry.name for entry in have.closure("target", ["c"])] == ["a", "b", "c"]

    def test_of_nothing_is_nothing(self) -> None:
        assert locked(package("a")).closure("target", []) == []

    def test_an_unknown_name_is_answered_with_the_nearest_and_the_remedy(self) -> None:
        with pytest.raises(
            BuildError, match=r"'busybx' is not in the target lock \(nearest: busybox\).*seeds.toml"
        ):
            locked(package("busybox")).closure("target", ["busybx"])

    def test_groups_are_apart(self) -> None:
        with pytest.raises(BuildError, match="not in the native lock"):
            locked(package("busybox")).closure("native", ["busybox"])


class TestResolve:
    def test_it_keeps_what_is_needed_and_no_more(self) -> None:
        result = lock.resolve(
            ["a"], [], [stanza("a", "b (>= 1), c:any"), stanza("b"), stanza("c"), stanza("d")]
        )
        assert {name: entry.depends for name, entry in result.items()} == {"a": ("b", "c"), "b": (), "c": ()}

    def test_all_fields_come_from_the_index(self) -> None:
        wanted = stanza("a", Source="src (9)", Version="2:3-4", Architecture="all", Size="77")
        assert lock.resolve(["a"], [], [("debian-security", wanted[1])])["a"] == Package(
            "a", "2:3-4", "all", "src", "debian-security", "pool/main/a_1.0-1_armhf.deb", SHA, 77, ()
        )

    def test_pre_depends_count(self) -> None:
        result = lock.resolve(["a"], [], [stanza("a", "c", Pre_Depends="b"), stanza("b"), stanza("c")])
        assert result["a"].depends == ("b", "c")

    @pytest.mark.parametrize(
        ("relation", "chosen"),
        [
            ("x | y", ("x",)),
            ("y | x", ("y",)),
            ("gone | y", ("y",)),
            ("virtual", ("p",)),  # two packages provide it: the first by name
            ("virtual | y", ("y",)),  # by name before by Provides
            ("gone | virtual", ("p",)),
            ("y, x | y", ("x", "y")),
        ],
    )
    def test_alternatives(self, relation: str, chosen: tuple[str, ...]) -> None:
        available = [
            stanza("a", relation),
            *(stanza("x"), stanza("y")),
            *(stanza("q", Provides="virtual"), stanza("p", Provides="other, virtual (= 1)")),
        ]
        assert lock.resolve(["a"], [], available)["a"].depends == chosen

    def test_what_is_excluded_goes_with_all_that_only_it_needed(self) -> None:
        available = [
            stanza("a", "perl, keep"),
            *(stanza("perl", "perl-base, keep"), stanza("perl-base")),
            stanza("keep"),
        ]
        result = lock.resolve(["a"], ["perl"], available)
        assert {name: entry.depends for name, entry in result.items()} == {"a": ("keep",), "keep": ()}

    def test_the_next_alternative_takes_the_place_of_an_excluded_one(self) -> None:
        available = [stanza("a", "x | y, virtual"), stanza("x"), stanza("y")]
        available += [stanza("p", Provides="virtual"), stanza("q", Provides="virtual")]
        assert lock.resolve(["a"], ["x", "p"], available)["a"].depends == ("q", "y")

    def test_an_excluded_name_need_not_be_in_the_solution(self) -> None:
        assert lock.resolve(["a"], ["x"], [stanza("a", "x | gone")])["a"].depends == ()

    def test_a_package_that_provides_what_it_needs_does_not_need_itself(self) -> None:
        assert lock.resolve(["a"], [], [stanza("a", "v", Provides="v")])["a"].depends == ()

    def test_a_hole_in_the_solution_is_an_error_and_no_smaller_image(self) -> None:
        with pytest.raises(BuildError, match=r"nothing in apt's solution is 'x \| y', which a needs"):
            lock.resolve(["a"], [], [stanza("a", "x | y")])

    def test_a_virtual_name_cannot_be_wanted(self) -> None:
        with pytest.raises(BuildError, match="'awk' is no package of its own"):
            lock.resolve(["awk"], [], [stanza("mawk", Provides="awk")])

    @given(st.randoms())
    @settings(deadline=None)
    def test_the_order_of_the_index_does_not_matter(self, random: Any) -> None:
        available = [
            stanza("a", "b | c, virtual"),
            *(stanza("b", "d"), stanza("c"), stanza("d", "a")),
            *(stanza("p", Provides="virtual"), stanza("q", Provides="virtual")),
        ]
        expected = lock.resolve(["a", "c"], [], available)
        random.shuffle(available)
        assert lock.resolve(["c", "a"], [], available) == expected


class TestFile:
    def full(self) -> Lock:
        source = Source("6.12.1-1", (SourceFile("debian-security", "pool/l.deb", SHA, 5),))
        return locked(
            *(package("b", "a"), package("a")),
            sources={"u-boot": source, "linux": source},
            security={"b": "x", "a": "y"},
        )

    def test_what_is_written_is_read_back(self, tmp_path: Path) -> None:
        path = tmp_path / "packages.json"
        path.write_text(lock.dump(self.full()))
        assert lock.load(path) == self.full()
        assert lock.dump(lock.load(path)) == path.read_text()

    def test_its_text_does_not_depend_on_the_order_in_memory(self) -> None:
        one = self.full()
        other = Lock(
            one.epoch,
            dict(reversed(list(one.security.items()))),
            {group: dict(reversed(list(packages.items()))) for group, packages in one.groups.items()},
            dict(reversed(list(one.sources.items()))),
        )
        assert lock.dump(other) == lock.dump(one)

    def test_a_missing_lock_is_named_with_the_remedy(self, tmp_path: Path) -> None:
        with pytest.raises(BuildError, match=r"packages.json: no package lock; make one with './fleet lock'"):
            lock.load(tmp_path / "packages.json")

    def test_an_unreadable_lock_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(BuildError, match=r"cannot read the package lock: Is a directory"):
            lock.load(tmp_path)

    @pytest.mark.parametrize(
        ("change", "why"),
        [
            (lambda data: data.pop("epoch"), "'epoch' is missing"),
            (lambda data: data.pop("target"), "'target' is missing"),
            (lambda data: data.update(target=[]), "no attribute"),
            (lambda data: data.update(epoch="soon"), "soon"),
            (lambda data: data.update(security=3), "not iterable"),
            (lambda data: data["target"]["a"].pop("depends"), "'depends' is missing"),
            (lambda data: data["target"]["a"].pop("version"), "version"),
            (lambda data: data["target"]["a"].update(colour="red"), "colour"),
            (lambda data: data["target"]["a"].update(sha256="12ab"), "'12ab' is no SHA-256"),
            (lambda data: data["target"]["a"].update(sha256=None), "NoneType"),
            (lambda data: data["target"]["a"].update(size="1"), "'<' not supported"),
            (lambda data: data["target"]["a"].update(size=-1), "size -1 is negative"),
            (
                lambda data: data["target"]["a"].update(archive="ubuntu"),
                "archive 'ubuntu' is none of debian, ",
            ),
            (lambda data: data["target"].pop("a"), "target: b depends on a, which is not locked"),
            (lambda data: data["sources"]["linux"]["files"][0].update(sha256=SHA + "0"), "is no SHA-256"),
            (lambda data: data["sources"]["linux"].pop("files"), "'files' is missing"),
        ],
    )
    def test_damage_is_one_clear_message(self, change: Any, why: str, tmp_path: Path) -> None:
        data = json.loads(lock.dump(self.full()))
        change(data)
        path = tmp_path / "packages.json"
        path.write_text(json.dumps(data))
        with pytest.raises(BuildError) as caught:
            lock.load(path)
        message = str(caught.value)
        assert message.startswith(f"{path}: damaged package lock (")
        assert why in message
        assert "restore it from git or make a new one with './fleet lock'" in message

    @given(st.data())
    @settings(deadline=None)
    def test_a_cut_or_garbled_lock_never_gives_a_traceback(
        self, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
    ) -> None:
        raw = bytearray(lock.dump(self.full()).encode())
        if data.draw(st.booleans()):
            del raw[data.draw(st.integers(0, len(raw))) :]
        else:
            raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
        path = tmp_path_factory.mktemp("lock") / "packages.json"
        path.write_bytes(raw)
        with contextlib.suppress(BuildError):
            lock.load(path)

    def test_the_digest_follows_the_tables_alone(self, tmp_path: Path) -> None:
        (tmp_path / "names.toml").write_text("a")
        before = lock.digest(tmp_path)
        (tmp_path / "packages.new").write_text("half")
        (tmp_path / "names.toml~").write_text("backup")
        assert lock.digest(tmp_path) == before
        (tmp_path / "names.toml").write_text("b")
        assert lock.digest(tmp_path) != before

    def test_the_digest_knows_where_one_file_ends(self, tmp_path: Path) -> None:
        one, two = tmp_path / "1", tmp_path / "2"
        for folder, (first, second) in ((one, ("xb.toml\0y", "z")), (two, ("x", "yb.toml\0z"))):
            folder.mkdir()
            (folder / "a.toml").write_text(first)
            (folder / "b.toml").write_text(second)
        assert lock.digest(one) != lock.digest(two)


class TestSeeds:
    GOOD = """
        [native.sets.tools]
        gcc = "compiler"
        [target.sets.image]
        busybox = "shell"
        [target.exclude]
        perl = "unused"
        [sources.linux]
        package = "linux-source-6.12"
        [sources.u-boot]
        source = "u-boot"
        suite = "trixie"
        """

    def read(self, folder: Path, text: str) -> Seeds:
        path = folder / "seeds.toml"
        path.write_text(text)
        return lock.load_seeds(path)

    def test_good(self, tmp_path: Path) -> None:
        seeds = self.read(tmp_path, self.GOOD + '[target.sets.more]\nzip = "x"\nbusybox = "again"')
        assert seeds.wanted("target") == ["busybox", "zip"]
        assert seeds.wanted("native") == ["gcc"]
        assert seeds.exclude == {"native": {}, "target": {"perl": "unused"}}
        assert seeds.sources["u-boot"] == {"source": "u-boot", "suite": "trixie"}

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ('gcc = "compiler"', 'gcc = ""', r"\[native.sets.tools\]: gcc has no text that says what for"),
            ('gcc = "compiler"', "gcc = true", r"\[native.sets.tools\]: gcc has no text"),
            ('perl = "unused"', 'perl = " "', r"\[target.exclude\]: perl has no text"),
            ('perl = "unused"', 'busybox = "why?"', r"\[target\] both wants and excludes busybox"),
            ("[native.sets.tools]\n", "[native]\nsets = 1\n[other]\n", "no attribute"),
            ("[native.sets.tools]", "[other]", r"there is no \[native\]"),
            ('suite = "trixie"', "", r"\[sources.u-boot\] must have 'package', or 'source' and 'suite'"),
            ('suite = "trixie"', 'suit = "trixie"', r"\[sources.u-boot\] must have"),
            ("[target.exclude]", "[target.exclude", "cannot read the package seeds"),
        ],
    )
    def test_bad(self, old: str, new: str, message: str, tmp_path: Path) -> None:
        assert old in self.GOOD
        with pytest.raises(BuildError, match=message) as caught:
            self.read(tmp_path, self.GOOD.replace(old, new))
        assert str(tmp_path / "seeds.toml") in str(caught.value)

    def test_absent(self, tmp_path: Path) -> None:
        with pytest.raises(BuildError, match=r"cannot read the package seeds: .*No such file"):
            lock.load_seeds(tmp_path / "seeds.toml")


class TestChanges:
    def test_the_first_lock_is_all_new(self) -> None:
        assert lock.changes(None, locked(package("a"), security={})) == ["target: a - -> 1"]

    def test_of_equal_locks_there_are_none(self) -> None:
        assert lock.changes(locked(package("a")), locked(package("a"))) == []

    def test_new_gone_and_other_versions(self) -> None:
        file = SourceFile("debian", "pool/x", SHA, 1)
        old = locked(package("a"), package("b"), sources={"linux": Source("6.12.1", (file,))})
        new = locked(package("b", version="2"), package("c"), sources={"linux": Source("6.12.2", (file,))})
        assert lock.changes(old, new) == [
            "target: a 1 -> -",
            "target: b 1 -> 2",
            "target: c - -> 1",
            "source: linux 6.12.1 -> 6.12.2",
        ]

    def test_other_relations_or_files_of_the_same_version_are_seen(self) -> None:
        old = locked(package("a", "b"), package("b"))
        new = locked(package("a"), replace(package("b"), sha256=SHA[::-1]))
        assert lock.changes(old, new) == [
            "target: a 1 has other files or relations",
            "target: b 1 has other files or relations",
        ]

    def test_the_security_suite_counts_but_its_date_does_not(self) -> None:
        old = locked(security={"amd64": "verified, index of 2026-01-01", "armhf": "not used: why"}, epoch=1)
        new = locked(
            security={"amd64": "verified, index of 2026-02-02", "armhf": "verified, index of 2026-02-02"}
        )
        assert lock.changes(old, new) == ["security: armhf not used: why -> verified"]


class TestCommand:
    """``./fleet lock`` with a made-up archive; the tests of indexes.py have a real one."""

    @pytest.fixture
    def folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        (tmp_path / "seeds.toml").write_text(TestSeeds.GOOD)
        monkeypatch.setattr(lock, "LOCK_DIR", tmp_path)
        return tmp_path

    def archive_holds(self, monkeypatch: pytest.MonkeyPatch, new: Lock) -> None:
        monkeypatch.setattr(indexes, "make_lock", lambda _seeds: new)

    def test_the_first_run_writes_the_lock_and_says_what_is_in_it(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.archive_holds(monkeypatch, locked(package("a"), security={}))
        assert lock.main([]) == 0
        assert lock.load(folder / "packages.json") == locked(package("a"), security={})
        assert capsys.readouterr().out == "target: a - -> 1\n"
        assert {path.name for path in folder.iterdir()} == {"packages.json", "seeds.toml"}

    def test_without_news_the_file_keeps_its_date(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        text = lock.dump(locked(package("a")))
        (folder / "packages.json").write_text(text)
        self.archive_holds(monkeypatch, locked(package("a"), epoch=1800000000))
        assert lock.main([]) == 0
        assert (folder / "packages.json").read_text() == text
        assert capsys.readouterr().out == "The lock is up to date.\n"

    @pytest.mark.usefixtures("folder")
    def test_run_as_a_module_it_knows_an_equal_lock(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.archive_holds(monkeypatch, locked(package("a")))
        assert lock.main([]) == 0
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["lock", "--check"])
        with pytest.raises(SystemExit) as caught, warnings.catch_warnings(action="ignore"):
            runpy.run_module("fleetbuild.lock", run_name="__main__")
        assert capsys.readouterr().out == "The lock is up to date.\n"
        assert caught.value.code == 0

    @pytest.mark.parametrize(("version", "code"), [("1", 0), ("2", 1)])
    def test_check_changes_nothing_and_tells_by_its_exit_code(
        self, version: str, code: int, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        text = lock.dump(locked(package("a")))
        (folder / "packages.json").write_text(text)
        self.archive_holds(monkeypatch, locked(package("a", version=version)))
        assert lock.main(["--check"]) == code
        assert (folder / "packages.json").read_text() == text

    def test_json_is_a_list_of_the_same_lines(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (folder / "packages.json").write_text(lock.dump(locked(package("a"))))
        self.archive_holds(monkeypatch, locked(package("a", version="2")))
        assert lock.main(["--check", "--json"]) == 1
        assert json.loads(capsys.readouterr().out) == ["target: a 1 -> 2"]

    def test_a_damaged_lock_is_replaced_but_fails_a_check(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (folder / "packages.json").write_text("{")
        self.archive_holds(monkeypatch, locked(package("a")))
        assert lock.main(["--check"]) == 2
        assert "damaged package lock" in capsys.readouterr().err
        assert (folder / "packages.json").read_text() == "{"
        assert lock.main([]) == 0
        assert "damaged package lock" in capsys.readouterr().err
        assert lock.load(folder / "packages.json") == locked(package("a"))

    def test_an_archive_that_fails_leaves_the_lock_alone(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def broken(_seeds: Seeds) -> Lock:
            raise BuildError("no network")

        (folder / "packages.json").write_text("old")
        monkeypatch.setattr(indexes, "make_lock", broken)
        assert lock.main([]) == 2
        assert capsys.readouterr().err.endswith("fleet lock: no network\n")
        assert (folder / "packages.json").read_text() == "old"

    def test_a_folder_that_cannot_be_written_is_one_message(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (folder / "packages.new").mkdir()  # not even root can open that for writing
        self.archive_holds(monkeypatch, locked(package("a")))
        assert lock.main([]) == 2
        assert "packages.json: cannot write the lock: Is a directory." in capsys.readouterr().err
