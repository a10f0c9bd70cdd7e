# SPDX-License-Identifier: Apache-2.0
"""Locks made by the real apt from small signed archives on this machine."""

import hashlib
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path

import pytest

from fleetbuild import BuildError, indexes, lock
from fleetbuild.lock import Seeds

pytestmark = pytest.mark.skipif(
    not (shutil.which("gpg") and shutil.which("gpgv")), reason="needs the package gnupg to sign an archive"
)
DATE = 1700000000
SHA = hashlib.sha256(b"").hexdigest()


class Keys:
    """Two signing keys; the first is the archive's."""

    def __init__(self, home: Path) -> None:
        self.environment = {**os.environ, "GNUPGHOME": str(home), "LC_ALL": "C.UTF-8"}
        home.chmod(0o700)
        for name in ("archive", "stranger"):
            self.gpg("--quick-gen-key", "--passphrase", "", f"{name}@example.org", "ed25519", "sign", "never")
        self.keyring = home / "archive.gpg"
        self.keyring.write_bytes(self.gpg("--export", "archive@example.org"))

    def gpg(self, *words: str, data: bytes = b"") -> bytes:
        command = [
            "gpg",
            "--batch",
            "--quiet",
            "--no-auto-check-trustdb",
            "--pinentry-mode",
            "loopback",
            *words,
        ]
        return subprocess.run(
            command, input=data, env=self.environment, check=True, capture_output=True
        ).stdout

    def sign(self, text: str, who: str) -> bytes:
        return self.gpg("--clearsign", "--local-user", f"{who}@example.org", data=text.encode())

    def close(self) -> None:
        subprocess.run(["gpgconf", "--kill", "all"], env=self.environment, check=True)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keys]:
    made = Keys(tmp_path_factory.mktemp("gpg"))
    yield made
    made.close()


def package(name: str, version: str = "1.0", **fields: str) -> str:
    """One stanza of a binary index."""
    pool = fields.pop("pool", "pool/main")
    base = {"Package": name, "Version": version, "Architecture": "all", "Maintainer": "x <x@example.org>"}
    base |= {"Filename": f"{pool}/{name}_{version}_all.deb", "Size": "10", "SHA256": SHA, "Description": name}
    base |= {key.replace("_", "-"): value for key, value in fields.items()}
    return "".join(f"{key}: {value}\n" for key, value in base.items()) + "\n"


def source(name: str, version: str) -> str:
    """One stanza of a source index."""
    files = [f"{name}_{version}.dsc", f"{name}_1.orig.tar.xz", f"{name}_1.orig.tar.xz.asc"]
    files.append(f"{name}_{version}.debian.tar.xz")
    lines = "".join(f" {hashlib.sha256(file.encode()).hexdigest()} 7 {file}\n" for file in files)
    return (
        f"Package: {name}\nBinary: {name}\nVersion: {version}\nArchitecture: any\nFormat: 3.0 (quilt)\n"
        f"Maintainer: x <x@example.org>\nDirectory: pool/main/{name}\nChecksums-Sha256:\n{lines}\n"
    )


class Archive:
    """A mirror of ``debian`` and ``debian-security`` in a folder."""

    def __init__(self, folder: Path, keys: Keys) -> None:
        self.folder = folder
        self.keys = keys

    def suite(
        self, name: str, contents: Mapping[str, str], *, date: int = DATE, signed_by: str | None = "archive"
    ) -> Path:
        """Write a suite, return its folder; ``contents`` maps architectures or ``source`` to indexes."""
        base = "debian-security" if name.endswith("-security") else "debian"
        top = self.folder / base / "dists" / name
        checksums = ""
        for architecture, text in contents.items():
            kind = "source/Sources" if architecture == "source" else f"binary-{architecture}/Packages"
            path = top / "main" / kind
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            digest = hashlib.sha256(text.encode()).hexdigest()
            checksums += f" {digest} {len(text.encode())} main/{kind}\n"
        release = (
            f"Origin: Debian\nLabel: Debian\nSuite: {name}\nCodename: {name}\nComponents: main\n"
            f"Architectures: amd64 armhf\nDate: {format_datetime(datetime.fromtimestamp(date, UTC))}\n"
            f"SHA256:\n{checksums}"
        )
        if signed_by:
            (top / "InRelease").write_bytes(self.keys.sign(release, signed_by))
        else:
            (top / "InRelease").unlink(missing_ok=True)
            (top / "Release").write_text(release)
        return top

    def fill(self) -> None:
        """Write all suites, with little in them."""
        both = package("app", Depends="lib (>= 1), perl | awk, helper") + package("perl", Depends="perl-data")
        both += package("perl-data") + package("helper") + package("linux-source-6.12", "6.12.1-1")
        lib = {"amd64": package("lib", "1.0"), "armhf": package("lib", "1.0-1~armhf")}
        self.suite("bookworm", {architecture: both + text for architecture, text in lib.items()})
        self.suite("bookworm-updates", {"amd64": package("helper", "1.1"), "armhf": ""}, date=DATE + 86400)
        new = package("lib", "1.0-2", pool="pool/updates/main")
        self.suite("bookworm-security", {"amd64": new, "armhf": new}, date=DATE + 2 * 86400)
        entries = "".join(source("u-boot", version) for version in ("2025.01-9", "2025.01-10", "2024.01-99"))
        self.suite("trixie", {"source": entries}, date=DATE + 3 * 86400)


SEEDS = Seeds(
    {"native": {"tools": {"app": "x"}}, "target": {"image": {"app": "x"}}},
    {"native": {}, "target": {"perl": "x"}},
    {"linux": {"package": "linux-source-6.12"}, "u-boot": {"source": "u-boot", "suite": "trixie"}},
)


@pytest.fixture
def archive(tmp_path: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> Archive:
    """A good archive that is this machine's mirror."""
    made = Archive(tmp_path / "mirror", keys)
    made.fill()
    monkeypatch.setattr(indexes, "KEYRING", keys.keyring)
    monkeypatch.setenv("FLEET_DEBIAN_MIRROR", f"file:{made.folder}/debian")
    monkeypatch.setenv("FLEET_DEBIAN_SECURITY_MIRROR", f"file:{made.folder}/debian-security")
    monkeypatch.delenv("FLEET_REQUIRE_SECURITY", raising=False)
    return made


def spoil(path: Path) -> None:
    """Change an index after it was signed."""
    data = path.read_bytes()
    path.write_bytes(data[:-1] + b"\t\n" if data else b"\n")


@pytest.mark.usefixtures("archive")
def test_a_lock_holds_versions_and_files_of_all_suites(capsys: pytest.CaptureFixture[str]) -> None:
    made = indexes.make_lock(SEEDS)
    versions = {
        group: {name: entry.version for name, entry in packages.items()}
        for group, packages in made.groups.items()
    }
    assert versions == {
        "native": {"app": "1.0", "lib": "1.0-2", "perl": "1.0", "perl-data": "1.0", "helper": "1.1"},
        "target": {"app": "1.0", "lib": "1.0-2", "helper": "1.0"},
    }
    lib = made.groups["target"]["lib"]
    assert (lib.archive, lib.filename) == ("debian-security", "pool/updates/main/lib_1.0-2_all.deb")
    assert made.groups["native"]["helper"].archive == "debian"
    assert made.security == {
        "amd64": "verified, index of 2023-11-16",
        "armhf": "verified, index of 2023-11-16",
    }
    assert made.epoch == DATE + 3 * 86400
    assert capsys.readouterr() == ("", "")


@pytest.mark.usefixtures("archive")
def test_sources_are_the_newest_by_debians_order_without_signatures() -> None:
    sources = indexes.make_lock(SEEDS).sources
    assert [file.filename for file in sources["linux"].files] == [
        "pool/main/linux-source-6.12_6.12.1-1_all.deb"
    ]
    assert sources["linux"].version == "6.12.1-1"
    assert sources["u-boot"].version == "2025.01-10"
    assert [file.filename.removeprefix("pool/main/u-boot/") for file in sources["u-boot"].files] == [
        "u-boot_1.orig.tar.xz",
        "u-boot_2025.01-10.debian.tar.xz",
    ]
    assert {file.size for file in sources["u-boot"].files} == {7}


def test_security_is_left_out_where_its_index_does_not_verify(
    archive: Archive, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(archive.folder / "debian-security/dists/bookworm-security/main/binary-armhf/Packages")
    made = indexes.make_lock(SEEDS)
    assert made.groups["native"]["lib"].version == "1.0-2"
    assert made.groups["target"]["lib"].version == "1.0-1~armhf"
    assert made.security["amd64"].startswith("verified")
    assert made.security["armhf"] == "not used: the armhf index of bookworm-security does not verify"
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("WARNING: security updates not used: the armhf index")


def test_a_release_can_insist_on_security(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(archive.folder / "debian-security/dists/bookworm-security/main/binary-armhf/Packages")
    monkeypatch.setenv("FLEET_REQUIRE_SECURITY", "1")
    with pytest.raises(
        BuildError, match=r"armhf index .* FLEET_REQUIRE_SECURITY is 1\. .* FLEET_DEBIAN_SECURITY_MIRROR"
    ):
        indexes.make_lock(SEEDS)


@pytest.mark.parametrize(
    ("suite", "harm"),
    [
        ("bookworm", "spoilt"),
        ("bookworm", "stranger"),
        ("bookworm", "unsigned"),
        ("bookworm-updates", "gone"),
        ("trixie", "spoilt"),
        ("trixie", "unsigned"),
    ],
)
def test_an_index_that_cannot_be_trusted_changes_nothing(
    suite: str,
    harm: str,
    archive: Archive,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    contents = {"source": source("u-boot", "3")} if suite == "trixie" else {"amd64": "", "armhf": ""}
    top = archive.folder / "debian/dists" / suite
    if harm == "spoilt":
        for path in top.glob("main/*/*"):
            spoil(path)
    elif harm == "gone":
        shutil.rmtree(top)
    else:
        archive.suite(suite, contents, signed_by="stranger" if harm == "stranger" else None)
    # A machine that takes unsigned archives for its own use does not weaken the lock.
    lenient = tmp_path / "lenient.conf"
    lenient.write_text(
        'Acquire::AllowInsecureRepositories "true";\nAPT::Get::AllowUnauthenticated "true";\n'
        'Acquire::AllowWeakRepositories "true";\n'
    )
    monkeypatch.setenv("APT_CONFIG", str(lenient))
    folder = tmp_path / "lock"
    folder.mkdir()
    (folder / "packages.json").write_text("as it was")
    shutil.copy(lock.LOCK_DIR / "seeds.toml", folder)
    monkeypatch.setattr(lock, "LOCK_DIR", folder)
    monkeypatch.setattr(lock, "load_seeds", lambda _path: SEEDS)
    assert lock.main([]) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith(
        "fleet lock: an index of the archive cannot be had or does not verify, nothing was changed"
    )
    assert "set FLEET_DEBIAN_MIRROR to another mirror" in message
    assert (folder / "packages.json").read_text() == "as it was"
    assert {path.name for path in folder.iterdir()} == {"packages.json", "seeds.toml"}


@pytest.mark.usefixtures("archive")
def test_a_mirror_that_does_not_answer_is_no_empty_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then apt-get update only warns, and ends with 0."""
    configuration = tmp_path / "host.conf"
    configuration.write_text('Acquire::Retries::Delay "false";\nAcquire::http::Proxy::127.0.0.1 "DIRECT";\n')
    monkeypatch.setenv("APT_CONFIG", str(configuration))
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("FLEET_DEBIAN_MIRROR", f"http://127.0.0.1:{closed.getsockname()[1]}/debian")
        with pytest.raises(BuildError, match=r"an index of the archive cannot be had .* Could not connect"):
            indexes.make_lock(SEEDS)


@pytest.mark.usefixtures("archive")
def test_hooks_and_default_release_of_the_machine_play_no_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = tmp_path / "ran"
    configuration = tmp_path / "host.conf"
    configuration.write_text(
        f'APT::Update::Pre-Invoke {{ "touch {hook}"; }};\nAPT::Update::Post-Invoke {{ "touch {hook}"; }};\n'
        f'APT::Update::Post-Invoke-Success {{ "touch {hook}"; }};\nAPT::Default-Release "sid";\n'
        'APT::Install-Recommends "true";\n'
    )
    monkeypatch.setenv("APT_CONFIG", str(configuration))
    assert indexes.make_lock(SEEDS).epoch == DATE + 3 * 86400
    assert not hook.exists()


@pytest.mark.usefixtures("archive")
def test_credentials_of_the_machine_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexes, "APT_CONFIGURATION", tmp_path / "etc")
    root = indexes.AptRoot(tmp_path / "root", "amd64", [])
    dump = subprocess.run(
        ["apt-config", "-c", str(tmp_path / "root/apt.conf"), "shell", "F", "Dir::Etc::netrc/f"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert dump == f"F='{tmp_path}/etc/auth.conf'\n"
    assert root.update() is None


def test_what_is_only_recommended_is_not_wanted_and_idle_exclusions_are_named(
    archive: Archive, capsys: pytest.CaptureFixture[str]
) -> None:
    text = package("app", Recommends="lib", Suggests="perl") + package("lib") + package("perl")
    text += package("linux-source-6.12")
    archive.suite("bookworm", {"amd64": text, "armhf": text})
    assert set(indexes.make_lock(SEEDS).groups["native"]) == {"app"}
    assert (
        capsys.readouterr().err == "WARNING: [target.exclude] of seeds.toml names what nothing needs: perl.\n"
    )


def test_what_apt_cannot_satisfy_is_told_in_its_words(archive: Archive) -> None:
    text = package("app", Depends="nowhere") + package("linux-source-6.12")
    archive.suite("bookworm", {"amd64": text, "armhf": text})
    with pytest.raises(
        BuildError, match=r"apt cannot satisfy \[native\] of seeds\.toml:\n(.*\n)*.*app : Depends: nowhere"
    ):
        indexes.make_lock(SEEDS)


@pytest.mark.parametrize("wish", [{"package": "linux-source-9"}, {"source": "nix", "suite": "trixie"}])
@pytest.mark.usefixtures("archive")
def test_a_source_that_the_archive_lacks(wish: dict[str, str]) -> None:
    seeds = Seeds(SEEDS.sets, SEEDS.exclude, {"x": wish})
    with pytest.raises(
        BuildError, match=r"source package '(linux-source-9|nix)' of seeds\.toml is not in the archive"
    ):
        indexes.make_lock(seeds)


def test_no_keyring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexes, "KEYRING", Path("/nonexistent/keyring.gpg"))
    with pytest.raises(
        BuildError, match=r"keyring\.gpg is missing; install the package debian-archive-keyring"
    ):
        indexes.make_lock(SEEDS)
