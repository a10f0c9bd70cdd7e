# SPDX-License-Identifier: Apache-2.0
"""How an engine is put together, and how kas finds it."""

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from fleet_cli import engine
from fleet_cli.engine import EngineError, Wheel

INIT_SCRIPT = Path(engine.__file__).parents[1] / "oe-init-build-env"
KAS_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """Return launchers of a pretended engine."""
    root = tmp_path / "sources"
    for name, text in {
        "bin/bitbake": "#!/bin/sh\necho hello\n",
        "lib/hashserv/__init__.py": "real = False\n",
    }.items():
        path = root / name
        path.parent.mkdir(parents=True)
        path.write_text(text)
    (root / "bin/bitbake").chmod(0o755)
    return root


@pytest.fixture
def wheel(tmp_path: Path) -> Wheel:
    """Return the pin of a small wheel that lies in tmp_path/index."""
    path = tmp_path / "index" / "pretend_bitbake-1.0-py3-none-any.whl"
    path.parent.mkdir()
    info = "pretend_bitbake-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("bb/__init__.py", "__version__ = '1.0'\n")
        archive.writestr("bitbake_setup/__main__.py", "")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: pretend-bitbake\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return Wheel("pretend-bitbake", "1.0", path.name, hashlib.sha256(path.read_bytes()).hexdigest())


@pytest.fixture(autouse=True)
def own_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pip see the folder tmp_path/index and nothing else."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))


def pretend_pip(tmp_path: Path, script: str) -> str:
    """Return an "interpreter" whose `-m pip` is a shell script."""
    path = tmp_path / "python"
    path.write_text("#!/bin/sh\n" + script)
    path.chmod(0o755)
    return str(path)


def test_engine_holds_the_wheel_and_our_files(tmp_path: Path, sources: Path, wheel: Wheel) -> None:
    cache = tmp_path / "cache"
    made = engine.ensure_engine(cache, sources=sources, wheel=wheel)

    assert made.parent == cache
    assert made.name.startswith("engine-")
    assert (made / "lib/bb/__init__.py").is_file()
    assert (made / "lib/hashserv/__init__.py").read_text() == "real = False\n"
    assert not (made / "lib/bitbake_setup").exists()
    assert not (made / "lib").is_symlink()
    assert subprocess.run([made / "bin/bitbake"], capture_output=True, check=True).stdout == b"hello\n"
    assert {path.name for path in cache.iterdir()} == {"downloads", "engine.lock", made.name}


def test_an_engine_that_exists_costs_nothing(tmp_path: Path, sources: Path, wheel: Wheel) -> None:
    made = engine.ensure_engine(tmp_path / "cache", sources=sources, wheel=wheel)
    shutil.rmtree(tmp_path / "cache/downloads")
    (tmp_path / "cache/engine.lock").unlink()

    again = engine.ensure_engine(tmp_path / "cache", python="/no/python", sources=sources, wheel=wheel)

    assert again == made
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [made.name]


def test_every_change_of_ours_makes_another_engine(tmp_path: Path, sources: Path, wheel: Wheel) -> None:
    def path() -> Path:
        return engine.engine_path(tmp_path, sources, wheel)

    seen = [path()]
    (sources / "bin/bitbake").write_text("#!/bin/sh\necho other\n")
    seen.append(path())
    (sources / "bin/bitbake").chmod(0o644)
    seen.append(path())
    (sources / "lib/new.py").write_text("")
    seen.append(path())
    seen.append(engine.engine_path(tmp_path, sources, Wheel("x", "2", "x.whl", "0" * 64)))
    assert len(set(seen)) == len(seen)

    (sources / "lib/__pycache__").mkdir()
    (sources / "lib/__pycache__/new.pyc").write_text("left behind by Python")
    assert path() == seen[3]


def test_two_at_once_make_one(tmp_path: Path, sources: Path, wheel: Wheel) -> None:
    log = tmp_path / "pip.log"
    pip = pretend_pip(tmp_path, f'echo pip >> {log}\nexec {shlex.quote(sys.executable)} "$@"\n')
    callers = 4
    start = Barrier(callers)

    def ensure(_: int) -> Path:
        start.wait()
        return engine.ensure_engine(tmp_path / "cache", python=pip, sources=sources, wheel=wheel)

    with ThreadPoolExecutor(callers) as pool:
        made = set(pool.map(ensure, range(callers)))

    assert len(made) == 1
    assert log.read_text() == "pip\n"


def test_what_a_killed_setup_left_is_replaced(tmp_path: Path, sources: Path, wheel: Wheel) -> None:
    cache = tmp_path / "cache"
    half = cache / (engine.engine_path(cache, sources, wheel).name + ".partial")
    (half / "lib/bb").mkdir(parents=True)
    (half / "lib/bb/half.py").write_text("half a file")

    made = engine.ensure_engine(cache, sources=sources, wheel=wheel)

    assert not (made / "lib/bb/half.py").exists()
    assert not half.exists()


def test_the_kept_wheel_needs_no_pip(tmp_path: Path, sources: Path, wheel: Wheel) -> None:
    downloads = tmp_path / "cache/downloads"
    downloads.mkdir(parents=True)
    shutil.copy(tmp_path / "index" / wheel.file, downloads)
    engine.ensure_engine(tmp_path / "cache", python="/no/python", sources=sources, wheel=wheel)


def refusal(tmp_path: Path, sources: Path, wheel: Wheel, python: str = sys.executable) -> str:
    """Return the message of an ensure_engine that must fail, and check that it left no engine."""
    with pytest.raises(EngineError) as caught:
        engine.ensure_engine(tmp_path / "cache", python=python, sources=sources, wheel=wheel)
    assert not list((tmp_path / "cache").glob("engine-*"))
    return str(caught.value)


def test_another_wheel_in_the_index_is_refused(tmp_path: Path, sources: Path, wheel: Wheel) -> None:
    with zipfile.ZipFile(tmp_path / "index" / wheel.file, "a") as archive:
        archive.writestr("bb/evil.py", "")
    assert "not the pinned one" in refusal(tmp_path, sources, wheel)


def test_another_wheel_in_the_cache_is_refused(tmp_path: Path, sources: Path, wheel: Wheel) -> None:
    kept = tmp_path / "cache/downloads" / wheel.file
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"half a download")
    message = refusal(tmp_path, sources, wheel)
    assert str(kept) in message
    assert wheel.sha256 in message


def test_no_network_is_one_message(tmp_path: Path, sources: Path, wheel: Wheel) -> None:
    (tmp_path / "index" / wheel.file).unlink()
    message = refusal(tmp_path, sources, wheel)
    assert "Check the network" in message
    assert "\n" not in message
    assert str(tmp_path / "cache/downloads") in message


def test_an_interpreter_without_pip_is_named(tmp_path: Path, sources: Path, wheel: Wheel) -> None:
    python = pretend_pip(tmp_path, f"echo {tmp_path}/python: No module named pip >&2\nexit 1\n")
    assert f"{python} has no pip" in refusal(tmp_path, sources, wheel, python)


def test_an_unwritable_cache_is_named(tmp_path: Path, sources: Path, wheel: Wheel) -> None:
    (tmp_path / "cache").write_text("a file")  # root may write to any folder, but into no file
    with pytest.raises(EngineError, match=f"cannot write the build engine into {tmp_path}/cache"):
        engine.ensure_engine(tmp_path / "cache", sources=sources, wheel=wheel)


def test_the_command_reports_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    command = [sys.executable, "-I", engine.__file__, "--cache", str(tmp_path / "cache")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("fleet: cannot write")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"FLEET_CACHE": "/c", "XDG_CACHE_HOME": "/x", "HOME": "/h"}, "/c"),
        ({"XDG_CACHE_HOME": "/x", "HOME": "/h"}, "/x/meta-fleet"),
        ({"FLEET_CACHE": "", "XDG_CACHE_HOME": "", "HOME": "/h"}, "/h/.cache/meta-fleet"),
    ],
)
def test_default_cache(environment: dict[str, str], expected: str) -> None:
    assert engine.default_cache(environment) == Path(expected)


# --- tools/oe-init-build-env ------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a work tree with the script and a place, with a space in it, for the rest."""
    root = tmp_path / "work tree"
    (root / "tools").mkdir(parents=True)
    shutil.copy(INIT_SCRIPT, root / "tools")
    return root


def kas_environment(tree: Path, build_dir: str) -> "subprocess.CompletedProcess[str]":
    """Source the script as kas does and return what `env` says."""
    script = f"set -e\nsource oe-init-build-env {shlex.quote(build_dir)} > /dev/null\nenv\n"
    return subprocess.run(
        ["/bin/bash", "-c", script],
        cwd=tree / "tools",
        env={"PATH": KAS_PATH},
        capture_output=True,
        text=True,
        check=False,
    )


def test_kas_gets_what_it_needs(tree: Path, tmp_path: Path, sources: Path, wheel: Wheel) -> None:
    cache = tmp_path / "my cache"
    made = engine.ensure_engine(cache, sources=sources, wheel=wheel)
    engine.write_environment(tree / "build", made, cache)

    done = kas_environment(tree, "/does/not exist")

    assert done.returncode == 0, done.stderr
    env = dict(line.split("=", 1) for line in done.stdout.splitlines())
    assert env["BUILDDIR"] == "/does/not exist"
    assert env["FLEET_CACHE"] == str(cache)
    assert {"FLEET_CACHE", "FLEET_DEBIAN_MIRROR", "FLEET_REQUIRE_SECURITY", "FLEET_BUILD_ID"} <= set(
        env["BB_ENV_PASSTHROUGH_ADDITIONS"].split()
    )
    assert env["PATH"].endswith(":" + KAS_PATH)
    assert shutil.which("bitbake", path=env["PATH"]) == str(made / "bin/bitbake")
    python = shutil.which("python3", path=env["PATH"])
    assert python is not None
    assert Path(python).samefile(sys.executable)


def test_sourcing_twice_changes_nothing(tree: Path, tmp_path: Path, sources: Path, wheel: Wheel) -> None:
    made = engine.ensure_engine(tmp_path / "cache", sources=sources, wheel=wheel)
    engine.write_environment(tree / "build", made, tmp_path / "cache")
    show = 'echo "$PATH|$BB_ENV_PASSTHROUGH_ADDITIONS|$BUILDDIR"'
    script = f"set -eu\n. tools/oe-init-build-env\n{show}\n. tools/oe-init-build-env build\n{show}\n"
    done = subprocess.run(
        ["/bin/bash", "-c", script],
        cwd=tree,
        env={"PATH": KAS_PATH, "BB_ENV_PASSTHROUGH_ADDITIONS": "MINE"},
        capture_output=True,
        text=True,
        check=True,
    )
    first, second = done.stdout.splitlines()
    assert first == second
    assert "|MINE FLEET_" in first
    assert " FLEET_CACHE " in first
    assert first.endswith(f"|{tree}/build")


@pytest.mark.parametrize("missing", ["file", "engine", "python"])
def test_without_setup_it_says_so(
    tree: Path, tmp_path: Path, sources: Path, wheel: Wheel, missing: str
) -> None:
    if missing != "file":
        made = engine.ensure_engine(tmp_path / "cache", sources=sources, wheel=wheel)
        python = "/no/python" if missing == "python" else sys.executable
        engine.write_environment(tree / "build", made, tmp_path / "cache", python)
    if missing == "engine":
        shutil.rmtree(made)

    done = kas_environment(tree, str(tree / "build"))

    assert done.returncode == 1
    assert done.stdout == ""
    assert f"Run ./fleet setup in {tree} first" in done.stderr


def test_the_environment_file_is_written_only_when_it_changes(tmp_path: Path) -> None:
    path = engine.write_environment(tmp_path, Path("/e"), Path("/c"), "/usr/bin/python3")
    os.utime(path, (1, 1))
    engine.write_environment(tmp_path, Path("/e"), Path("/c"), "/usr/bin/python3")
    assert path.stat().st_mtime == 1
    engine.write_environment(tmp_path, Path("/e 2"), Path("/c"), "/usr/bin/python3")
    assert "FLEET_ENGINE='/e 2'\n" in path.read_text()
    assert [entry.name for entry in tmp_path.iterdir()] == [engine.ENV_FILE]
