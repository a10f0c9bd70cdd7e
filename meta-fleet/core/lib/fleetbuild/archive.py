# SPDX-License-Identifier: Apache-2.0
"""The Debian archive, asked through apt: signed indexes in a private root, and checked downloads.

The mirror is the build host's own (from its apt configuration) or ``FLEET_DEBIAN_MIRROR`` /
``FLEET_DEBIAN_SECURITY_MIRROR``, so that proxies, credentials and local mirrors keep working.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

from fleetbuild import BuildError
from fleetbuild.deb822 import stanzas
from fleetbuild.lock import Lock, Package, Seeds, Source, SourceFile, resolve

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
APT_HELPER = Path("/usr/lib/apt/apt-helper")
BASE = "bookworm"
SECURITY = "debian-security"
ARCHITECTURES = {"native": "amd64", "target": "armhf"}
_MIRROR_VARIABLES = {"debian": "FLEET_DEBIAN_MIRROR", SECURITY: "FLEET_DEBIAN_SECURITY_MIRROR"}


def mirror(archive: str, environment: Mapping[str, str] = os.environ) -> str:
    """Return the base URI of ``debian`` or ``debian-security``; BuildError when the host does not know one."""
    variable = _MIRROR_VARIABLES[archive]
    if environment.get(variable):
        return environment[variable].rstrip("/")
    listing = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME) $(LABEL)", "Created-By: Packages"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    uri = mirror_of_listing(archive, listing) or _mirror_of_sources(archive)
    if uri is None:
        raise BuildError(
            f"no mirror for the Debian archive '{archive}' in this machine's apt configuration; "
            f"set {variable} to the base URI of one (the part before /dists)."
        )
    return uri


def mirror_of_listing(archive: str, listing: str) -> str | None:
    """Find the archive's base URI in the output of ``apt-get indextargets`` (lines: URI, codename, label)."""
    label = {"debian": "Debian", SECURITY: "Debian-Security"}[archive]
    for line in listing.splitlines():
        uri, _, rest = line.partition(" ")
        if rest.endswith(" " + label):
            return uri.rstrip("/")
    return None


def _mirror_of_sources(archive: str) -> str | None:
    """Find the archive's base URI in the sources themselves, for hosts where ``apt-get update`` never ran."""
    pattern = re.compile(r"(?:^URIs:|^deb\s+(?:\[[^]]*\]\s+)?)\s*(\S+)", re.M)
    folder = Path("/etc/apt")
    for path in [folder / "sources.list", *sorted((folder / "sources.list.d").glob("*"))]:
        if path.suffix not in {".list", ".sources"} or not path.is_file():
            continue
        for uri in pattern.findall(path.read_text(errors="replace")):
            if uri.rstrip("/").rsplit("/", 1)[-1] == archive:
                return str(uri).rstrip("/")
    return None


def download(folder: Path, files: Iterable[Package | SourceFile]) -> list[Path]:
    """Bring the locked files into ``folder`` and return their paths; what is there and right is kept.

    Raises BuildError for no network, for a file that left the mirror, and for wrong bytes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wanted = list(files)
    missing = [file for file in wanted if not _is_good(cached(folder, file), file)]
    for start in range(0, len(missing), 64):
        _download_batch(folder, missing[start : start + 64])
    return [cached(folder, file) for file in wanted]


def cached(folder: Path, file: Package | SourceFile) -> Path:
    """Return where a locked file lies in the download folder: the checksum keeps versions apart."""
    return folder / f"{file.sha256[:16]}-{Path(file.filename).name}"


def _is_good(path: Path, file: Package | SourceFile) -> bool:
    # Size only: the checksum was verified before the file got this name, and again when it is unpacked.
    return path.is_file() and path.stat().st_size == file.size


def _download_batch(folder: Path, files: Sequence[Package | SourceFile]) -> None:
    bases = {archive: mirror(archive) for archive in {file.archive for file in files}}
    with tempfile.TemporaryDirectory(dir=folder, prefix=".partial-") as name:
        partial = Path(name)
        command = [
            str(APT_HELPER),
            "-o",
            "Acquire::Retries=3",
            "-o",
            "APT::Sandbox::User=root",
            "download-file",
        ]
        for file in files:
            command += [
                f"{bases[file.archive]}/{file.filename}",
                str(partial / file.sha256),
                f"SHA256:{file.sha256}",
            ]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        bad = []
        for file in files:
            path = partial / file.sha256
            if path.is_file() and path.stat().st_size == file.size and _sha256(path) == file.sha256:
                path.chmod(0o644)
                path.replace(cached(folder, file))
            else:
                bad.append(file)
    if bad:
        raise BuildError(explain_failure(bad, result.stdout + result.stderr))


def explain_failure(files: Sequence[Package | SourceFile], output: str) -> str:
    """Turn apt's complaint about a download into one message with the remedy."""
    names = ", ".join(Path(file.filename).name for file in files[:5])
    more = f" and {len(files) - 5} more" if len(files) > 5 else ""
    if re.search(r"\b404\b|Not Found|does not exist", output):
        return (
            f"locked package gone from the mirror: {names}{more}. The archive has replaced it: run './fleet lock' "
            "to lock what it holds now and commit the result, or set FLEET_DEBIAN_MIRROR / "
            "FLEET_DEBIAN_SECURITY_MIRROR to a mirror that keeps old versions (a snapshot archive)."
        )
    if re.search(r"Hash Sum mismatch|unexpected size", output, re.I):
        return (
            f"the mirror gave wrong bytes for {names}{more}; nothing was kept. Try again, or another mirror."
        )
    last = next((line for line in reversed(output.splitlines()) if line.strip()), "apt-helper said nothing")
    return (
        f"cannot download {names}{more}: {last.strip()}. Check the network and apt's proxy settings; "
        "a build whose packages are all in the download cache needs no network."
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class AptRoot:
    """A private apt root for one architecture: own sources, own lists, nothing of the host's package state."""

    def __init__(self, folder: Path, architecture: str, sources: Sequence[str]) -> None:
        self.folder = folder
        for sub in (
            "etc/apt/preferences.d",
            "var/lib/apt/lists/partial",
            "var/cache/apt/archives/partial",
            "var/lib/dpkg",
        ):
            (folder / sub).mkdir(parents=True, exist_ok=True)
        self.status = folder / "var/lib/dpkg/status"
        self.status.touch()
        (folder / "etc/apt/sources.list").write_text("\n".join(sources) + "\n")
        self._options = [
            *("-o", f"Dir={folder}"),
            *("-o", f"Dir::State::status={self.status}"),
            *("-o", f"APT::Architecture={architecture}"),
            *("-o", f"APT::Architectures={architecture}"),
            *("-o", "APT::Sandbox::User=root"),
            *("-o", "Acquire::Languages=none"),
            *("-o", "Acquire::Retries=3"),
        ]

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run an apt command (``apt-get`` or ``apt-cache`` first) on this root."""
        environment = {**os.environ, "LC_ALL": "C.UTF-8"}
        return subprocess.run(
            [command[0], *self._options, *command[1:]],
            capture_output=True,
            text=True,
            check=False,
            env=environment,
        )

    def update(self) -> str | None:
        """Fetch and verify the indexes; None when all verified, else apt's complaint."""
        result = self.run("apt-get", "update")
        complaints = [line for line in result.stderr.splitlines() if line.startswith(("E:", "W:"))]
        return "; ".join(complaints) or None if result.returncode or complaints else None

    def dates(self) -> dict[str, int]:
        """Return the Date of each verified Release file, as seconds, keyed by ``archive/codename``."""
        found = {}
        for path in sorted((self.folder / "var/lib/apt/lists").glob("*_InRelease")):
            text = path.read_text(errors="replace")
            fields = dict(re.findall(r"^(Date|Codename|Label): (.+)$", text, re.M))
            if "Date" in fields:
                found[fields.get("Codename", path.name)] = int(
                    parsedate_to_datetime(fields["Date"]).timestamp()
                )
        return found


def _line(kind: str, suite: str, archive: str = "debian") -> str:
    return f"{kind} [signed-by={KEYRING}] {mirror(archive)} {suite} main"


def make_lock(seeds: Seeds) -> Lock:
    """Resolve the seeds against the signed indexes of the archive and return the lock.

    The security suite is used where its index verifies; where it does not, the lock says so and a warning
    is printed, or with ``FLEET_REQUIRE_SECURITY=1`` BuildError is raised.
    """
    if not KEYRING.is_file():
        raise BuildError(f"{KEYRING} is missing; install the package debian-archive-keyring.")
    security: dict[str, str] = {}
    groups: dict[str, dict[str, Package]] = {}
    epochs: list[int] = []
    with tempfile.TemporaryDirectory(prefix="fleet-lock-") as name:
        for group, architecture in ARCHITECTURES.items():
            apt, security[architecture] = _verified_root(Path(name) / group, architecture)
            epochs += apt.dates().values()
            groups[group] = _lock_group(apt, group, seeds)
            if group == "native":
                binary_sources = {
                    name: _lock_binary_source(apt, wish["package"])
                    for name, wish in seeds.sources.items()
                    if "package" in wish
                }
        sources: dict[str, Source] = dict(binary_sources)
        for name_, wish in seeds.sources.items():
            if "source" in wish:
                folder = Path(name) / f"source-{name_}"
                apt = AptRoot(folder, "amd64", [_line("deb-src", wish["suite"])])
                _must_verify(apt)
                sources[name_] = _lock_source(apt, wish["source"])
    return Lock(max(epochs), security, groups, sources)


def _verified_root(folder: Path, architecture: str) -> tuple[AptRoot, str]:
    """Return a root with verified indexes, and what became of the security suite."""
    base = [_line("deb", BASE), _line("deb", f"{BASE}-updates")]
    apt = AptRoot(folder / "with", architecture, [*base, _line("deb", f"{BASE}-security", SECURITY)])
    complaint = apt.update()
    if complaint is None:
        date = datetime.fromtimestamp(apt.dates().get(f"{BASE}-security", 0), UTC)
        return apt, f"verified, index of {date:%Y-%m-%d}"
    apt = AptRoot(folder / "without", architecture, base)
    _must_verify(apt)
    message = f"not used: the {architecture} index of {BASE}-security does not verify"
    if os.environ.get("FLEET_REQUIRE_SECURITY") == "1":
        raise BuildError(
            f"{message} ({complaint}), and FLEET_REQUIRE_SECURITY is 1. Try another mirror or later."
        )
    print(f"WARNING: security updates {message}.", flush=True)
    return apt, message


def _must_verify(apt: AptRoot) -> None:
    complaint = apt.update()
    if complaint:
        raise BuildError(
            f"an archive index does not verify, nothing was changed: {complaint}. Try again later or set "
            "FLEET_DEBIAN_MIRROR to another mirror."
        )


def _lock_group(apt: AptRoot, group: str, seeds: Seeds) -> dict[str, Package]:
    wanted = seeds.wanted(group)
    result = apt.run("apt-get", "install", "--simulate", "--no-install-recommends", "--assume-yes", *wanted)
    if result.returncode:
        raise BuildError(
            f"apt cannot satisfy [{group}] of seeds.toml:\n{result.stdout}{result.stderr}".rstrip()
        )
    solution = re.findall(r"^Inst (\S+) (?:\[[^]]*\] )?\((\S+) ", result.stdout, re.M)
    shown = apt.run("apt-cache", "show", *(f"{name}={version}" for name, version in solution))
    exact = dict(solution)
    available = {
        stanza["Package"]: (_archive_of(apt, stanza), stanza)
        for stanza in stanzas(shown.stdout)
        if exact.get(stanza["Package"]) == stanza["Version"]
    }
    return resolve(wanted, seeds.exclude[group], [available[name] for name in sorted(available)])


def _archive_of(apt: AptRoot, stanza: Mapping[str, str]) -> str:
    """Return which archive a stanza's file lives in: security versions sit below their own pool."""
    return SECURITY if "pool/updates/" in stanza["Filename"] else "debian"


def _lock_binary_source(apt: AptRoot, package: str) -> Source:
    shown = apt.run("apt-cache", "show", "--no-all-versions", package)
    stanza = next(stanzas(shown.stdout), None)
    if stanza is None:
        raise BuildError(f"source package '{package}' of seeds.toml is not in the archive.")
    file = SourceFile(_archive_of(apt, stanza), stanza["Filename"], stanza["SHA256"], int(stanza["Size"]))
    return Source(stanza["Version"], (file,))


def _lock_source(apt: AptRoot, package: str) -> Source:
    shown = apt.run("apt-cache", "showsrc", "--only-source", package)
    stanza = max(stanzas(shown.stdout), key=lambda entry: entry["Version"], default=None)
    if stanza is None:
        raise BuildError(f"source package '{package}' of seeds.toml is not in the archive.")
    files = []
    for line in stanza["Checksums-Sha256"].splitlines():
        if line.strip():
            sha256, size, name = line.split()
            # The signed index vouches for the archives; the .dsc and upstream's signature add nothing to that.
            if name.endswith((".dsc", ".asc")):
                continue
            files.append(SourceFile("debian", f"{stanza['Directory']}/{name}", sha256, int(size)))
    return Source(stanza["Version"], tuple(files))
