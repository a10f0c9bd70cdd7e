# SPDX-License-Identifier: Apache-2.0
"""The signed indexes of the Debian archive, read by apt in a private root: seeds in, package lock out."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

from fleetbuild import BuildError
from fleetbuild.archive import APT_CONFIGURATION, SECURITY, VARIABLES, mirror, run_apt
from fleetbuild.deb822 import Stanza, stanzas
from fleetbuild.lock import Lock, Package, Seeds, Source, SourceFile, resolve

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
BASE = "bookworm"
ARCHITECTURES = {"native": "amd64", "target": "armhf"}

# Read after the host's own configuration: its proxies, time-outs and credentials stay in force; its hooks,
# default release and leniency towards unsigned archives do not.
_CONFIGURATION = """\
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
Dir "{folder}";
Dir::State::status "{folder}/var/lib/dpkg/status";
Dir::Etc::netrc "{configuration}/auth.conf";
Dir::Etc::netrcparts "{configuration}/auth.conf.d";
APT::Architecture "{architecture}";
APT::Architectures "{architecture}";
APT::Default-Release "";
APT::Sandbox::User "root";
APT::Install-Recommends "false";
APT::Install-Suggests "false";
APT::Get::AllowUnauthenticated "false";
Acquire::AllowInsecureRepositories "false";
Acquire::AllowWeakRepositories "false";
Acquire::AllowDowngradeToInsecureRepositories "false";
Acquire::Languages "none";
Acquire::Retries "3";
"""


class AptRoot:
    """A private apt root for one architecture: own sources, own lists, no package state of the host."""

    def __init__(self, folder: Path, architecture: str, sources: Sequence[str]) -> None:
        self.folder = folder
        for sub in (
            *("etc/apt/preferences.d", "etc/apt/sources.list.d", "var/lib/dpkg"),
            *("var/lib/apt/lists/partial", "var/cache/apt/archives/partial"),
        ):
            (folder / sub).mkdir(parents=True, exist_ok=True)
        (folder / "var/lib/dpkg/status").touch()
        (folder / "etc/apt/sources.list").write_text("\n".join(sources) + "\n")
        (folder / "apt.conf").write_text(
            _CONFIGURATION.format(folder=folder, architecture=architecture, configuration=APT_CONFIGURATION)
        )

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run an apt command (``apt-get`` or ``apt-cache`` first) on this root."""
        return run_apt([command[0], "-c", str(self.folder / "apt.conf"), *command[1:]])

    def update(self) -> str | None:
        """Fetch and verify the indexes; None when all verified, else apt's complaint."""
        result = self.run("apt-get", "update")
        # apt-get exits with 0 when an index could not be fetched: a warning is a failure here.
        complaints = re.findall(r"^(?:E|W|Error|Warning): .*$", result.stderr, re.M)
        if result.returncode and not complaints:
            complaints = [f"apt-get update ended with {result.returncode}"]
        return "; ".join(complaints) or None

    def dates(self) -> dict[str, int]:
        """Return the Date of each verified Release file, in seconds, keyed by codename."""
        found = {}
        for path in sorted((self.folder / "var/lib/apt/lists").glob("*Release")):
            text = path.read_text(errors="replace")
            fields = dict(re.findall(r"^(Date|Codename): (.+)$", text, re.M))
            if "Date" in fields:
                date = parsedate_to_datetime(fields["Date"])
                found[fields.get("Codename", path.name)] = int(date.timestamp())
        return found


def _archive_of_suite(suite: str) -> str:
    return SECURITY if suite.endswith("-security") else "debian"


def _line(kind: str, suite: str) -> str:
    return f"{kind} [signed-by={KEYRING}] {mirror(_archive_of_suite(suite))} {suite} main"


def make_lock(seeds: Seeds) -> Lock:
    """Resolve the seeds against the signed indexes of the archive and return the lock.

    The security suite is used where its index verifies; where it does not, the lock says so and a warning
    is printed, or with ``FLEET_REQUIRE_SECURITY=1`` BuildError is raised.
    """
    if not KEYRING.is_file():
        raise BuildError(f"{KEYRING} is missing; install the package debian-archive-keyring.")
    security: dict[str, str] = {}
    groups: dict[str, dict[str, Package]] = {}
    sources: dict[str, Source] = {}
    with tempfile.TemporaryDirectory(prefix="fleet-lock-") as folder:
        roots: dict[str, AptRoot] = {}
        for group, architecture in ARCHITECTURES.items():
            roots[group], security[architecture] = _verified_root(Path(folder) / group, architecture)
            groups[group] = _lock_group(roots[group], group, seeds)
        for name, wish in seeds.sources.items():
            if "package" in wish:
                sources[name] = _lock_binary_source(roots["native"], wish["package"])
            else:
                root = AptRoot(Path(folder) / f"source-{name}", "amd64", [_line("deb-src", wish["suite"])])
                _must_verify(root)
                roots[f"source-{name}"] = root
                sources[name] = _lock_source(root, wish["source"], _archive_of_suite(wish["suite"]))
        epoch = max(date for root in roots.values() for date in root.dates().values())
    return Lock(epoch, security, groups, sources)


def _verified_root(folder: Path, architecture: str) -> tuple[AptRoot, str]:
    """Return a root with verified indexes, and what became of the security suite."""
    base = [_line("deb", BASE), _line("deb", f"{BASE}-updates")]
    apt = AptRoot(folder / "with", architecture, [*base, _line("deb", f"{BASE}-security")])
    complaint = apt.update()
    if complaint is None:
        date = datetime.fromtimestamp(apt.dates().get(f"{BASE}-security", 0), UTC)
        return apt, f"verified, index of {date:%Y-%m-%d}"
    apt = AptRoot(folder / "without", architecture, base)
    _must_verify(apt)
    message = f"not used: the {architecture} index of {BASE}-security does not verify"
    if os.environ.get("FLEET_REQUIRE_SECURITY") == "1":
        raise BuildError(
            f"security updates {message} ({complaint}), and FLEET_REQUIRE_SECURITY is 1. Nothing was "
            f"changed; try again later or set {VARIABLES[SECURITY]} to another mirror."
        )
    _warn(f"security updates {message} ({complaint}).")
    return apt, message


def _warn(message: str) -> None:
    print(f"WARNING: {message}", file=sys.stderr, flush=True)


def _must_verify(apt: AptRoot) -> None:
    if complaint := apt.update():
        raise BuildError(
            f"an index of the archive cannot be had or does not verify, nothing was changed: {complaint}. "
            f"Check the network, try again later, or set {VARIABLES['debian']} to another mirror."
        )


def _lock_group(apt: AptRoot, group: str, seeds: Seeds) -> dict[str, Package]:
    wanted = seeds.wanted(group)
    result = apt.run("apt-get", "install", "--simulate", "--assume-yes", *wanted)
    if result.returncode:
        raise BuildError(
            f"apt cannot satisfy [{group}] of seeds.toml:\n{result.stdout}{result.stderr}".rstrip()
        )
    solution = dict(re.findall(r"^Inst (\S+) (?:\[[^]]*\] )?\((\S+) ", result.stdout, re.M))
    shown = apt.run("apt-cache", "show", *(f"{name}={version}" for name, version in solution.items()))
    available = {
        stanza["Package"]: (_archive_of_file(stanza["Filename"]), stanza)
        for stanza in stanzas(shown.stdout)
        if solution.get(stanza["Package"]) == stanza["Version"]
    }
    if unused := sorted(set(seeds.exclude[group]) - set(solution)):
        _warn(f"[{group}.exclude] of seeds.toml names what nothing needs: {', '.join(unused)}.")
    return resolve(wanted, seeds.exclude[group], [available[name] for name in sorted(available)])


def _archive_of_file(filename: str) -> str:
    """Return which archive a file of an index lives in: the security archive has a pool of its own."""
    return SECURITY if filename.startswith("pool/updates/") else "debian"


def _lock_binary_source(apt: AptRoot, package: str) -> Source:
    shown = apt.run("apt-cache", "show", "--no-all-versions", package)
    stanza = next(stanzas(shown.stdout), None)
    if stanza is None:
        raise BuildError(f"source package '{package}' of seeds.toml is not in the archive.")
    archive = _archive_of_file(stanza["Filename"])
    file = SourceFile(archive, stanza["Filename"], stanza["SHA256"], int(stanza["Size"]))
    return Source(stanza["Version"], (file,))


def _lock_source(apt: AptRoot, package: str, archive: str) -> Source:
    shown = apt.run("apt-cache", "showsrc", "--only-source", package)
    stanza = _newest(stanzas(shown.stdout))
    if stanza is None:
        raise BuildError(f"source package '{package}' of seeds.toml is not in the archive.")
    files = []
    for line in stanza["Checksums-Sha256"].split("\n"):
        if line.strip():
            sha256, size, name = line.split()
            # The signed index vouches for the archives; the .dsc and upstream's signature add nothing.
            if not name.endswith((".dsc", ".asc")):
                files.append(SourceFile(archive, f"{stanza['Directory']}/{name}", sha256, int(size)))
    return Source(stanza["Version"], tuple(files))


def _newest(entries: Iterable[Stanza]) -> Stanza | None:
    """Return the entry with the highest version in Debian's order."""
    newest = None
    for entry in entries:
        if newest is None or _is_newer(entry["Version"], newest["Version"]):
            newest = entry
    return newest


def _is_newer(version: str, other: str) -> bool:
    return subprocess.run(["dpkg", "--compare-versions", version, "gt", other], check=False).returncode == 0
