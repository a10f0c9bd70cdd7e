# SPDX-License-Identifier: Apache-2.0
"""Where the mirror is, and downloads by the real apt-helper from a server on this machine."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from fleetbuild import BuildError, archive
from fleetbuild.lock import SourceFile


class Mirror:
    """A web server on 127.0.0.1. ``files`` maps a path to its bytes; ``cut`` breaks off after so many."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.cut: int | None = None
        self.asked: list[str] = []
        mirror = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                mirror.asked.append(self.path)
                data = mirror.files.get(self.path)
                if data is None:
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data[: mirror.cut])
                self.close_connection = True

            def log_message(self, *_words: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()
        self.base = f"http://127.0.0.1:{self.server.server_port}/debian"

    def put(self, filename: str, data: bytes) -> SourceFile:
        self.files[f"/debian/{filename}"] = data
        return SourceFile("debian", filename, hashlib.sha256(data).hexdigest(), len(data))

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture(autouse=True)
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let apt try again at once, and not ask this machine's proxy."""
    configuration = tmp_path / "apt.conf"
    configuration.write_text(
        'Acquire::Retries::Delay "false";\nAcquire::http::Proxy::127.0.0.1 "DIRECT";\n'
        'Acquire::http::Timeout "60";\n'
    )
    monkeypatch.setenv("APT_CONFIG", str(configuration))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    server = Mirror()
    monkeypatch.setenv("FLEET_DEBIAN_MIRROR", server.base)
    yield server
    server.close()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


class TestDownload:
    def test_files_arrive_whole_readable_and_under_names_that_keep_versions_apart(
        self, mirror: Mirror, tmp_path: Path
    ) -> None:
        one = mirror.put("pool/a/a_1%3a2.0+b~c_all.deb", b"one")
        two = mirror.put("other/a_1%3a2.0+b~c_all.deb", b"two" * 100000)
        # A name is quoted as apt quotes those of an index.
        mirror.files = {
            "/debian/pool/a/a_1%253a2.0%2Bb~c_all.deb": b"one",
            "/debian/other/a_1%253a2.0%2Bb~c_all.deb": b"two" * 100000,
        }
        folder = tmp_path / "cache/debian"
        paths = archive.download(folder, [one, two])
        assert [path.read_bytes() for path in paths] == [b"one", b"two" * 100000]
        assert names(folder) == {path.name for path in paths}
        assert {path.stat().st_mode & 0o777 for path in paths} == {0o644}

    def test_what_is_there_is_not_asked_for_again(self, mirror: Mirror, tmp_path: Path) -> None:
        one, two = mirror.put("one", b"1"), mirror.put("two", b"22")
        archive.download(tmp_path / "cache", [one])
        mirror.asked.clear()
        archive.download(tmp_path / "cache", [one, two])
        assert mirror.asked == ["/debian/two"]

    def test_no_network_is_needed_when_all_is_there(
        self, mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        one = mirror.put("one", b"1")
        archive.download(tmp_path / "cache", [one])
        monkeypatch.setattr(archive, "APT_HELPER", "/nonexistent")
        monkeypatch.setenv("FLEET_DEBIAN_MIRROR", "none")
        archive.download(tmp_path / "cache", [one])

    def test_a_file_that_is_wanted_twice_is_fetched_once(self, mirror: Mirror, tmp_path: Path) -> None:
        one = mirror.put("one", b"1")
        paths = archive.download(tmp_path / "cache", [one, one])
        assert paths == [archive.cached(tmp_path / "cache", one)] * 2
        assert mirror.asked == ["/debian/one"]

    def test_many_files_go_in_batches(
        self, mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(archive, "_BATCH", 2)
        files = [mirror.put(f"file{number}", b"x" * number) for number in range(1, 6)]
        assert [path.stat().st_size for path in archive.download(tmp_path / "cache", files)] == [
            1,
            2,
            3,
            4,
            5,
        ]

    def test_an_incomplete_file_in_the_cache_is_fetched_again(self, mirror: Mirror, tmp_path: Path) -> None:
        one = mirror.put("one", b"whole")
        path = archive.cached(tmp_path, one)
        path.write_bytes(b"who")
        archive.download(tmp_path, [one])
        assert path.read_bytes() == b"whole"

    def test_a_file_that_left_the_mirror(self, mirror: Mirror, tmp_path: Path) -> None:
        one, two = mirror.put("pool/one_1.deb", b"1"), mirror.put("pool/two_404_Not_Found.deb", b"2")
        del mirror.files["/debian/pool/one_1.deb"]
        with pytest.raises(BuildError) as caught:
            archive.download(tmp_path / "cache", [one, two])
        message = str(caught.value)
        assert message.startswith("locked package gone from the mirror: one_1.deb. ")
        assert "./fleet lock" in message
        assert "FLEET_DEBIAN_MIRROR" in message
        # What could be had is kept for the next try.
        assert names(tmp_path / "cache") == {archive.cached(tmp_path, two).name}

    def test_wrong_bytes(self, mirror: Mirror, tmp_path: Path) -> None:
        one = mirror.put("one_1.deb", b"right")
        mirror.files["/debian/one_1.deb"] = b"wrong"
        with pytest.raises(
            BuildError, match=r"^the mirror gave wrong bytes for one_1\.deb; nothing was kept"
        ):
            archive.download(tmp_path / "cache", [one])
        assert names(tmp_path / "cache") == set()

    def test_a_connection_that_breaks_off(self, mirror: Mirror, tmp_path: Path) -> None:
        one = mirror.put("one_1.deb", b"x" * 100000)
        mirror.cut = 500
        with pytest.raises(BuildError, match=r"^cannot download one_1\.deb: .*Check the network"):
            archive.download(tmp_path / "cache", [one])
        assert names(tmp_path / "cache") == set()
        assert len(mirror.asked) > 1

    def test_no_server(self, mirror: Mirror, tmp_path: Path) -> None:
        one = mirror.put("one_1.deb", b"1")
        mirror.close()
        with pytest.raises(
            BuildError, match=r"^cannot download one_1\.deb: Could not connect to 127\.0\.0\.1"
        ):
            archive.download(tmp_path / "cache", [one])

    @pytest.mark.parametrize("scheme", ["file:", "file://", "copy:"])
    def test_a_local_mirror_is_copied_from_and_left_alone(
        self, scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        original = tmp_path / "mirror/pool/one"
        original.parent.mkdir(parents=True)
        original.write_bytes(b"1")
        original.chmod(0o400)
        monkeypatch.setenv("FLEET_DEBIAN_MIRROR", f"{scheme}{tmp_path}/mirror/")
        one = SourceFile("debian", "pool/one", hashlib.sha256(b"1").hexdigest(), 1)
        (path,) = archive.download(tmp_path / "cache", [one])
        assert not path.is_symlink()
        assert path.read_bytes() == b"1"
        assert original.stat().st_mode & 0o777 == 0o400
        gone = SourceFile("debian", "pool/two", one.sha256, 1)
        with pytest.raises(BuildError, match=r"^locked package gone from the mirror: two\."):
            archive.download(tmp_path / "cache2", [gone])

    def test_the_security_archive_has_a_mirror_of_its_own(
        self, mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FLEET_DEBIAN_SECURITY_MIRROR", mirror.base.replace("/debian", "/security/"))
        one = mirror.put("one", b"1")
        mirror.files["/security/two"] = b"2"
        two = SourceFile("debian-security", "two", hashlib.sha256(b"2").hexdigest(), 1)
        archive.download(tmp_path / "cache", [one, two])
        assert sorted(mirror.asked) == ["/debian/one", "/security/two"]

    def test_a_folder_that_cannot_be_made(self, mirror: Mirror, tmp_path: Path) -> None:
        (tmp_path / "cache").write_text("a file")
        with pytest.raises(
            BuildError, match=r"^cannot keep downloads in .*/cache: (Not a directory|File exists)"
        ):
            archive.download(tmp_path / "cache", [mirror.put("one", b"1")])

    def test_a_machine_without_apt(
        self, mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(archive, "APT_HELPER", "/nonexistent/apt-helper")
        with pytest.raises(
            BuildError, match=r"^/nonexistent/apt-helper is missing; the build needs a Debian"
        ):
            archive.download(tmp_path / "cache", [mirror.put("one", b"1")])


class TestVerified:
    def file(self, folder: Path, data: bytes) -> SourceFile:
        file = SourceFile("debian", "pool/x_1.deb", hashlib.sha256(b"right").hexdigest(), 5)
        archive.cached(folder, file).write_bytes(data)
        return file

    def test_right_bytes(self, tmp_path: Path) -> None:
        file = self.file(tmp_path, b"right")
        assert archive.verified(tmp_path, file) == archive.cached(tmp_path, file)

    def test_wrong_bytes_are_named_and_removed(self, tmp_path: Path) -> None:
        file = self.file(tmp_path, b"wrong")
        path = archive.cached(tmp_path, file)
        with pytest.raises(BuildError, match=r"x_1\.deb: the download cache held wrong bytes; removed"):
            archive.verified(tmp_path, file)
        assert not path.exists()
        with pytest.raises(
            BuildError, match=r"x_1\.deb: No such file or directory; run the fetch task again"
        ):
            archive.verified(tmp_path, file)


class TestExplanation:
    """Output of apt-helper 2.6 as it was seen, with names put in."""

    FILES = tuple(SourceFile("debian", f"pool/{name}", "0" * 64, 1) for name in ("a_1+2.deb", "b.deb"))

    def test_each_file_counts_for_its_own_reason(self) -> None:
        output = (
            "E: Failed to fetch http://h/pool/a_1%2B2.deb  Could not resolve 'h'\n"
            "E: Failed to fetch http://h/pool/b.deb  404  File not found [IP: 127.0.0.1 80]\n"
            "E: Download Failed\n"
        )
        assert archive.explain_failure(self.FILES, output).startswith(
            "locked package gone from the mirror: b.deb. "
        )
        assert archive.explain_failure(self.FILES[:1], output).startswith(
            "cannot download a_1+2.deb: Could not resolve 'h'. Check the network"
        )

    def test_numbers_in_names_and_addresses_are_no_status(self) -> None:
        output = "E: Failed to fetch http://h:404/pool/b.deb  Could not connect to h:404 (10.0.404.1)\n"
        assert archive.explain_failure(self.FILES[1:], output).startswith(
            "cannot download b.deb: Could not connect"
        )

    @pytest.mark.parametrize(
        "reason", ["Hash Sum mismatch", "File has unexpected size (6 != 7). Mirror sync?"]
    )
    def test_wrong_bytes(self, reason: str) -> None:
        output = f"E: Failed to fetch http://h/pool/b.deb  {reason}\n   Hashes of expected file:\n"
        assert archive.explain_failure(self.FILES[1:], output).startswith(
            "the mirror gave wrong bytes for b.deb"
        )

    def test_a_long_list_is_cut(self) -> None:
        files = [SourceFile("debian", f"f{number}", "0" * 64, 1) for number in range(7)]
        output = "".join(f"E: Failed to fetch http://h/f{number}  404  Not Found\n" for number in range(7))
        assert "mirror: f0, f1, f2, f3, f4 and 2 more. " in archive.explain_failure(files, output)

    @pytest.mark.parametrize(
        ("output", "words"),
        [
            ("", "apt-helper said nothing"),
            ("Ign:1\nE: No space left on device.\n\n", "No space left on device"),
        ],
    )
    def test_without_a_word_about_the_file_the_last_line_counts(self, output: str, words: str) -> None:
        assert archive.explain_failure(self.FILES, output).startswith(
            f"cannot download a_1+2.deb, b.deb: {words}. "
        )


class TestMirror:
    LISTING = (
        "http://one.example/ubuntu/ Ubuntu\n"
        "http://bpo.example/debian/ Debian Backports\n"
        "cdrom:[Debian]/ Debian\n"
        "https://two.example/pub/debian/ Debian\n"
        "http://three.example/debian/ Debian\n"
        "http://sec.example/debian-security/ Debian-Security\n"
    )

    def test_of_a_listing(self) -> None:
        assert archive.mirror_of_listing("debian", self.LISTING) == "https://two.example/pub/debian"
        assert (
            archive.mirror_of_listing("debian-security", self.LISTING) == "http://sec.example/debian-security"
        )
        assert archive.mirror_of_listing("debian", "") is None

    def test_the_first_entry_of_a_list_of_mirrors(self, tmp_path: Path) -> None:
        path = tmp_path / "debian.list"
        path.write_text(
            f"# mirrors\n\n mirror+file:{path}\ntor+http://x\thttp\n  http://a.example/debian\tpriority:1\n"
        )
        listing = f"mirror+file:{path}/ Debian\n"
        assert archive.mirror_of_listing("debian", listing) == "http://a.example/debian"
        path.unlink()
        assert archive.mirror_of_listing("debian", listing) is None

    @pytest.mark.parametrize(
        ("name", "text", "debian", "security"),
        [
            ("sources.list", "", None, None),
            (
                "sources.list",
                "# deb http://no.example/debian bookworm main\n"
                "deb-src http://no.example/debian bookworm main\n"
                "deb [arch=amd64 signed-by=/k.gpg] http://a.example/debian/ bookworm main\n"
                "deb\thttps://s.example/debian-security bookworm-security main\n",
                "http://a.example/debian",
                "https://s.example/debian-security",
            ),
            (
                "sources.list.d/debian.sources",
                "Types: deb-src\nURIs: http://no.example/debian\n\n"
                "Types: deb\nEnabled: no\nURIs: http://no.example/debian\n\n"
                "# URIs: http://no.example/debian\n"
                "Types: deb-src deb\nURIs: cdrom:/debian\n http://a.example/debian\nSuites: bookworm\n\n"
                "Types: deb\nURIs: http://s.example/debian-security/\n",
                "http://a.example/debian",
                "http://s.example/debian-security",
            ),
            ("sources.list.d/a.list", "deb http://a.example/ubuntu jammy main\n", None, None),
            ("sources.list.d/a.save", "deb http://a.example/debian jammy main\n", None, None),
        ],
    )
    def test_of_the_sources(
        self, name: str, text: str, debian: str | None, security: str | None, tmp_path: Path
    ) -> None:
        (tmp_path / "sources.list.d").mkdir()
        (tmp_path / name).write_text(text)
        assert archive.mirror_of_sources("debian", tmp_path) == debian
        assert archive.mirror_of_sources("debian-security", tmp_path) == security

    def test_the_variables_win(self) -> None:
        environment = {
            "FLEET_DEBIAN_MIRROR": "http://a.example/x/",
            "FLEET_DEBIAN_SECURITY_MIRROR": "file:///srv/mirror",
        }
        assert archive.mirror("debian", environment) == "http://a.example/x"
        assert archive.mirror("debian-security", environment) == "copy:///srv/mirror"

    @pytest.mark.parametrize("wish", ["a.example/debian", "ftp://a.example", "http:", "/srv/mirror"])
    def test_a_variable_that_is_no_usable_address(self, wish: str) -> None:
        with pytest.raises(
            BuildError, match=f"^FLEET_DEBIAN_MIRROR is '{wish}', but must start with http:, "
        ):
            archive.mirror("debian", {"FLEET_DEBIAN_MIRROR": wish})

    def test_apt_is_asked_and_then_its_sources(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        configuration = tmp_path / "apt.conf"
        configuration.write_text(f'Dir "{tmp_path}";\n')
        monkeypatch.setenv("APT_CONFIG", str(configuration))
        monkeypatch.setattr(archive, "APT_CONFIGURATION", tmp_path / "etc/apt")
        with pytest.raises(
            BuildError, match=r"no mirror for .* 'debian' .*; set FLEET_DEBIAN_MIRROR to the base"
        ):
            archive.mirror("debian", {})
        sources = tmp_path / "etc/apt/sources.list"
        sources.parent.mkdir(parents=True)
        sources.write_text("deb http://a.example/debian bookworm main\n")
        assert archive.mirror("debian", {}) == "http://a.example/debian"
