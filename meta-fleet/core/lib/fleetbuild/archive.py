# SPDX-License-Identifier: Apache-2.0
"""Locked files from the Debian archive: where its mirror is, and downloads that are checked by apt and by us.

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
from pathlib import Path
from urllib.parse import quote

from fleetbuild import BuildError
from fleetbuild.deb822 import stanzas
from fleetbuild.lock import Package, SourceFile

APT_HELPER = "/usr/lib/apt/apt-helper"
APT_CONFIGURATION = Path("/etc/apt")
SECURITY = "debian-security"
VARIABLES = {"debian": "FLEET_DEBIAN_MIRROR", SECURITY: "FLEET_DEBIAN_SECURITY_MIRROR"}
_LABELS = {"debian": "Debian", SECURITY: "Debian-Security"}
# Files per run of apt-helper: enough to keep its connections busy, few enough for a command line.
_BATCH = 64


def run_apt(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a program of apt, which then speaks English; BuildError when this machine has no apt."""
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    except FileNotFoundError:
        raise BuildError(f"{command[0]} is missing; the build needs a Debian or Ubuntu machine.") from None


def mirror(archive: str, environment: Mapping[str, str] = os.environ) -> str:
    """Return the base URI of ``debian`` or ``debian-security``; BuildError when the host knows none."""
    variable = VARIABLES[archive]
    if wish := environment.get(variable):
        uri = _usable(wish)
        if uri is None:
            raise BuildError(f"{variable} is '{wish}', but must start with http:, https:, file: or copy:.")
        return uri
    listing = run_apt(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(LABEL)", "Created-By: Packages"]
    ).stdout
    uri = mirror_of_listing(archive, listing) or mirror_of_sources(archive, APT_CONFIGURATION)
    if uri is None:
        raise BuildError(
            f"no mirror for the Debian archive '{archive}' in this machine's apt configuration; "
            f"set {variable} to the base URI of one (the part before /dists)."
        )
    return uri


def mirror_of_listing(archive: str, listing: str) -> str | None:
    """Find the archive's base URI in the output of ``apt-get indextargets`` (lines: URI, label)."""
    for line in listing.splitlines():
        uri, _, label = line.partition(" ")
        if label == _LABELS[archive] and (base := _usable(uri)):
            return base
    return None


def mirror_of_sources(archive: str, folder: Path) -> str | None:
    """Find the archive's base URI in apt's sources themselves, for hosts without indexes."""
    for path in [folder / "sources.list", *sorted((folder / "sources.list.d").glob("*"))]:
        if path.is_file():
            for uri in _source_uris(path.suffix, path.read_text(errors="replace")):
                base = _usable(uri)
                if base and base.rsplit("/", 1)[-1] == archive:
                    return base
    return None


def _source_uris(suffix: str, text: str) -> list[str]:
    """Return the URIs of a sources file (sources.list(5)): one-line style or stanzas."""
    if suffix == ".list":
        return re.findall(r"^deb\s+(?:\[[^]]*\]\s+)?(\S+)", text, re.M)
    uris = []
    if suffix == ".sources":
        for entry in stanzas(text):
            if "deb" in entry.get("Types", "").split() and entry.get("Enabled", "yes").lower() != "no":
                uris += entry.get("URIs", "").split()
    return uris


def _usable(uri: str) -> str | None:
    """Return a URI that single files can be fetched from, or None. Lists of mirrors give their first one."""
    scheme, _, rest = uri.partition(":")
    if scheme == "mirror+file":
        # For indexes only; apt-helper cannot use such a list.
        path = Path("/" + rest.strip("/"))
        text = path.read_text(errors="replace") if path.is_file() else ""
        entries = re.findall(r"^\s*([^#\s]\S*)", text, re.M)
        return next((base for entry in entries if entry != uri and (base := _usable(entry))), None)
    if scheme == "file":
        # Of a file: URI apt gives a link into the mirror, of copy: a file.
        scheme = "copy"
    return f"{scheme}:{rest.rstrip('/')}" if scheme in {"http", "https", "copy"} and rest else None


def download(folder: Path, files: Iterable[Package | SourceFile]) -> list[Path]:
    """Bring the locked files into ``folder`` and return their paths; what is there and right is kept.

    Raises BuildError for no network, for a file that left the mirror, and for wrong bytes.
    """
    wanted = list(files)
    missing = {path: file for file in wanted if not _is_good(path := cached(folder, file), file)}
    todo = list(missing.values())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for start in range(0, len(todo), _BATCH):
            _download_batch(folder, todo[start : start + _BATCH])
    except OSError as error:
        raise BuildError(f"cannot keep downloads in {folder}: {error.strerror}.") from None
    return [cached(folder, file) for file in wanted]


def cached(folder: Path, file: Package | SourceFile) -> Path:
    """Return where a locked file lies in the download folder: the checksum keeps versions apart."""
    return folder / f"{file.sha256[:16]}-{Path(file.filename).name}"


def verified(folder: Path, file: Package | SourceFile) -> Path:
    """Return a downloaded file after checking its bytes. Wrong ones are removed, to be fetched again.

    Raises BuildError when the file is absent or was wrong.
    """
    path = cached(folder, file)
    try:
        if _sha256(path) == file.sha256:
            return path
        path.unlink()
    except OSError as error:
        raise BuildError(f"{path}: {error.strerror}; run the fetch task again.") from None
    raise BuildError(f"{path.name}: the download cache held wrong bytes; removed, run the fetch task again.")


def _is_good(path: Path, file: Package | SourceFile) -> bool:
    # Size only: the checksum was verified before the file got this name, and is again when it is unpacked.
    return path.is_file() and path.stat().st_size == file.size


def _download_batch(folder: Path, files: Sequence[Package | SourceFile]) -> None:
    bases = {archive: mirror(archive) for archive in sorted({file.archive for file in files})}
    with tempfile.TemporaryDirectory(dir=folder, prefix=".partial-") as name:
        partial = Path(name)
        command = [APT_HELPER, "-o", "Acquire::Retries=3", "-o", "APT::Sandbox::User=root", "download-file"]
        for file in files:
            uri = f"{bases[file.archive]}/{quote(file.filename)}"
            command += [uri, str(partial / file.sha256), f"SHA256:{file.sha256}"]
        result = run_apt(command)
        bad = []
        for file in files:
            path = partial / file.sha256
            if path.is_file() and _sha256(path) == file.sha256:
                path.chmod(0o644)
                path.replace(cached(folder, file))
            else:
                bad.append(file)
    if bad:
        raise BuildError(explain_failure(bad, result.stdout + result.stderr))


# What apt says about a file, and what that means for the user. The first pattern that matches counts.
_EXPLANATIONS = (
    (
        re.compile(r"^404\b|File not found|Failed to stat"),
        "locked package gone from the mirror: {names}. The archive has replaced it: run './fleet lock' to "
        "lock what it holds now and commit the result, or set FLEET_DEBIAN_MIRROR / "
        "FLEET_DEBIAN_SECURITY_MIRROR to a mirror that keeps old versions (a snapshot archive).",
    ),
    (
        re.compile(r"Hash Sum mismatch|unexpected size", re.I),
        "the mirror gave wrong bytes for {names}; nothing was kept. Try again, or another mirror "
        "(FLEET_DEBIAN_MIRROR / FLEET_DEBIAN_SECURITY_MIRROR).",
    ),
    (
        re.compile(""),
        "cannot download {names}: {reason}. Check the network, the disk and apt's proxy settings; "
        "a build whose packages are all in the download cache needs no network.",
    ),
)


def explain_failure(files: Sequence[Package | SourceFile], output: str) -> str:
    """Turn apt's complaints about downloads into one message with the remedy, for one kind of failure."""
    complaints = re.findall(r"^E: Failed to fetch (\S+) +(.*)$", output, re.M)
    reasons = {uri.rsplit("/", 1)[-1]: reason for uri, reason in complaints}
    last = next((line for line in reversed(output.splitlines()) if line.strip()), "apt-helper said nothing")
    by_kind: dict[int, list[tuple[str, str]]] = {}
    for file in files:
        name = Path(file.filename).name
        reason = reasons.get(quote(name), last.removeprefix("E: ")).strip()
        kind = next(number for number, (pattern, _) in enumerate(_EXPLANATIONS) if pattern.search(reason))
        by_kind.setdefault(kind, []).append((name, reason))
    kind = min(by_kind)
    names = ", ".join(name for name, _ in by_kind[kind][:5])
    if len(by_kind[kind]) > 5:
        names += f" and {len(by_kind[kind]) - 5} more"
    return _EXPLANATIONS[kind][1].format(names=names, reason=by_kind[kind][0][1].rstrip("."))


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
