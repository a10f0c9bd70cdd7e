# SPDX-License-Identifier: Apache-2.0
"""Puts the BitBake engine together: `<cache>/engine-<hash>/{bin,lib}`.

The engine is the `bb` package of one wheel, pinned by version and SHA-256, and the launchers of
`tools/bitbake/`. The hash in the folder's name covers both, so an engine never changes once it is
there, any number of work trees share it, and "is it up to date?" is "does the folder exist?".

Standard library only, so that it also runs as a script before anything is installed:
`python3 -I tools/fleet_cli/engine.py [--cache DIR] [--build-dir DIR]` prints the engine's path.
"""

import argparse
import fcntl
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SOURCES = Path(__file__).resolve().parents[1] / "bitbake"
"""Our half of the engine: `bin/` and `lib/`, laid over the wheel's packages."""

ENV_FILE = "fleet-env"
"""Name of the file in the build directory that tools/oe-init-build-env reads."""

_LAYOUT = 1
"""Raise it when the way an engine is put together changes, so that new folders are made."""

_MAX_LAST_WORDS = 300


class EngineError(Exception):
    """The engine cannot be had; the message tells the user why and what to do."""


@dataclass(frozen=True)
class Wheel:
    """A wheel of the package index, pinned."""

    project: str
    version: str
    file: str
    """File name; pure Python, so one file serves every machine."""
    sha256: str

    @property
    def requirement(self) -> str:
        """The line of a requirements file that allows this wheel and no other."""
        return f"{self.project}=={self.version} --hash=sha256:{self.sha256}"


BITBAKE = Wheel(
    project="bitbake-setup",
    version="2.19.0",
    file="bitbake_setup-2.19.0-py3-none-any.whl",
    sha256="b6ae77afc234d872f89938272317157f8553621467818825db7dbf70380bcdd2",
)


def default_cache(environment: Mapping[str, str] | None = None) -> Path:
    """Return the cache folder: $FLEET_CACHE, else ${XDG_CACHE_HOME:-$HOME/.cache}/meta-fleet."""
    env = os.environ if environment is None else environment
    if env.get("FLEET_CACHE"):
        return Path(env["FLEET_CACHE"]).absolute()
    base = env.get("XDG_CACHE_HOME")
    home = Path(env["HOME"]) if env.get("HOME") else Path.home()
    return (Path(base) if base else home / ".cache").absolute() / "meta-fleet"


def engine_path(cache: Path, sources: Path = SOURCES, wheel: Wheel = BITBAKE) -> Path:
    """Return where the engine made of `sources` and `wheel` is, or would be, under `cache`."""
    digest = hashlib.sha256(f"{_LAYOUT} {wheel.requirement}\n".encode())
    for path in _files(sources):
        content = path.read_bytes()
        mode = "x" if os.access(path, os.X_OK) else "-"
        digest.update(f"{path.relative_to(sources).as_posix()} {mode} {len(content)}\n".encode())
        digest.update(content)
    return cache.absolute() / f"engine-{digest.hexdigest()[:16]}"


def ensure_engine(
    cache: Path, *, python: str = sys.executable, sources: Path = SOURCES, wheel: Wheel = BITBAKE
) -> Path:
    """Return the engine under `cache`, put together first when it is not there.

    `python` is the interpreter whose pip fetches the wheel, unless `<cache>/downloads` has it.
    Two callers at once are safe: the second waits for the first and uses its result. A caller that
    was killed leaves a `.partial` folder, which the next one replaces; an `engine-*` folder is whole.
    Raises EngineError when the wheel cannot be had, is not the pinned one, or the cache not written.
    """
    engine = engine_path(cache, sources, wheel)
    if engine.is_dir():
        return engine
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with _locked(cache / "engine.lock"):
            if not engine.is_dir():
                _assemble(engine, _fetch(wheel, cache / "downloads", python), sources)
    except OSError as error:
        raise EngineError(
            f"cannot write the build engine into {cache}: {error}. Free some space or set FLEET_CACHE to a "
            "folder that you may write to."
        ) from error
    return engine


def write_environment(build_dir: Path, engine: Path, cache: Path, python: str = sys.executable) -> Path:
    """Write `<build_dir>/fleet-env`, the shell assignments that tools/oe-init-build-env needs.

    kas sources that script with nothing but PATH in its environment and another HOME, so whatever
    depends on the user's environment is settled here. The file is replaced only when it changes.
    """
    values = {
        "FLEET_ENGINE": engine.absolute(),
        "FLEET_CACHE": cache.absolute(),
        "FLEET_PYTHON": Path(python).absolute(),
    }
    lines = ["# Written by ./fleet setup; read by tools/oe-init-build-env.\n"]
    lines += [f"{name}={shlex.quote(str(value))}\n" for name, value in values.items()]
    path = build_dir / ENV_FILE
    text = "".join(lines)
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        build_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=build_dir, prefix=".fleet-env.", delete=False) as new:
            new.write(text)
        Path(new.name).replace(path)
    return path


def _files(sources: Path) -> list[Path]:
    """Return the files that go into an engine, in a fixed order, without what Python leaves behind."""
    return sorted(
        path
        for part in ("bin", "lib")
        for path in (sources / part).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    )


def _assemble(engine: Path, wheel: Path, sources: Path) -> None:
    """Make `engine` out of the wheel and our files; it appears whole or not at all."""
    partial = engine.with_name(engine.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    # A real folder: the engine looks for bin/ beside the folder that lib/ really is.
    lib = partial / "lib"
    lib.mkdir(parents=True)
    with zipfile.ZipFile(wheel) as archive:
        # bitbake_setup, the wheel's own program, is not used; the licence texts stay.
        archive.extractall(
            lib, [name for name in archive.namelist() if name.split("/")[0] != "bitbake_setup"]
        )
    for source in _files(sources):
        target = partial / source.relative_to(sources)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
    partial.replace(engine)


def _fetch(wheel: Wheel, downloads: Path, python: str) -> Path:
    """Return the wheel in `downloads`, fetched by pip when it is not there, its hash checked."""
    kept = downloads / wheel.file
    if not kept.is_file():
        downloads.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=downloads, prefix=".pip-") as scratch:
            _pip_download(wheel, Path(scratch), python)
            (Path(scratch) / wheel.file).replace(kept)
    found = hashlib.sha256(kept.read_bytes()).hexdigest()
    if found != wheel.sha256:
        raise EngineError(
            f"{kept} is not the pinned {wheel.project} {wheel.version}: its SHA-256 is {found}, expected "
            f"{wheel.sha256}. Delete the file and run ./fleet setup again."
        )
    return kept


def _pip_download(wheel: Wheel, folder: Path, python: str) -> None:
    """Let pip fetch the wheel into `folder`: it knows the user's index, proxy and certificates."""
    requirements = folder / "requirements.txt"
    requirements.write_text(wheel.requirement + "\n", encoding="ascii")
    pip = [python, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
    what = ["--no-deps", "--only-binary", ":all:", "--require-hashes", "--requirement", str(requirements)]
    done = subprocess.run(
        [*pip, "--dest", str(folder), *what],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 0 and (folder / wheel.file).is_file():
        return
    output = done.stderr + done.stdout
    if "DO NOT MATCH THE HASHES" in output:
        raise EngineError(
            f"the package index offers a {wheel.project} {wheel.version} that is not the pinned one (SHA-256 "
            f"{wheel.sha256}). Do not use it: check the index that pip is configured for."
        )
    if "No module named pip" in output:
        raise EngineError(f"{python} has no pip. Install python3-venv and run ./fleet setup again.")
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    raise EngineError(
        f"pip could not fetch {wheel.project} {wheel.version}. Check the network and pip's configuration, or "
        f"put {wheel.file} into {folder.parent} by hand, and run ./fleet setup again. pip said: "
        f"{(lines or ['nothing'])[-1][:_MAX_LAST_WORDS]}"
    )


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock file; the kernel lets go of it when its holder ends, however that happens."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main(arguments: Sequence[str] | None = None) -> int:
    """Ensure the engine and print its path; with --build-dir also write the environment file."""
    parser = argparse.ArgumentParser(description="Put the BitBake engine together and print its path.")
    parser.add_argument("--cache", type=Path, help="cache folder (default: as ./fleet uses it)")
    parser.add_argument("--build-dir", type=Path, help=f"also write {ENV_FILE} into this folder")
    options = parser.parse_args(arguments)
    cache = options.cache or default_cache()
    try:
        engine = ensure_engine(cache)
        if options.build_dir:
            write_environment(options.build_dir, engine, cache)
    except EngineError as error:
        print(f"fleet: {error}", file=sys.stderr)
        return 1
    print(engine)
    return 0


if __name__ == "__main__":
    sys.exit(main())
