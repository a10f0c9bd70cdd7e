# SPDX-License-Identifier: Apache-2.0
"""The `fleet` script on systems where things are missing: a PATH of our own, an apt-get that pretends."""

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SECONDS = 120.0

# What a minimal Debian has; the script may use no more than this before it has installed something.
MINIMAL = ["bash", "cat", "dirname", "env", "flock", "id", "mkdir", "readlink", "rm", "sha256sum", "sh"]

PACKAGES = """# comment
python | python3     | python3          | runs the tools
build  | builder     | fleet-builder    | builds things | really
board  | emulator    | fleet-emulator   | emulates the board
board  | present     | cat              | is there already
test   | tester      | /nowhere/tester* | tests things
"""


class Machine:
    """A checkout and a PATH."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "checkout"
        self.bin = folder / "bin"
        self.cache = folder / "cache"
        self.apt_log = folder / "apt.log"
        self.python_log = folder / "python.log"
        self.bin.mkdir()
        (self.root / "tests").mkdir(parents=True)
        (self.root / "tools" / "fleet_cli").mkdir(parents=True)
        shutil.copy(REPOSITORY / "fleet", self.root)
        (self.root / "tools" / "packages.txt").write_text(PACKAGES)
        (self.root / "tools" / "requirements.txt").write_text("# nothing\n")
        (self.root / "tests" / "requirements.txt").write_text("# nothing, but for tests\n")
        (self.root / "tools" / "fleet_cli" / "__init__.py").touch()
        (self.root / "tools" / "fleet_cli" / "__main__.py").write_text(
            "import os, sys\nprint('CLI', sys.argv[1:], os.environ.get('PRETENDED_VENV', sys.prefix))\n"
        )
        for name in MINIMAL:
            path = shutil.which(name)
            assert path, name
            (self.bin / name).symlink_to(path)
        self.program("python3", f'echo "$*" >>{self.python_log}\nexec {sys.executable} "$@"')

    def program(self, name: str, text: str) -> None:
        path = self.bin / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def apt_get(self, then: str = "") -> None:
        """An apt-get that notes how it was called, and makes the missing commands."""
        make = f"cd {self.bin}; for c in fleet-builder fleet-emulator; do printf '' >$c; chmod +x $c; done"
        chmod = shutil.which("chmod")
        self.program("chmod", f'exec {chmod} "$@"')
        self.program("apt-get", f'echo "$*" >>{self.apt_log}\n{then or make}')

    def quick_venv(self, pip: str = "exit 0") -> None:
        """Let `python3 -m venv` be quick and pretend; `pip` is what its `python -m pip` does."""
        self.program(
            "python3",
            f"""echo "$*" >>{self.python_log}
if [ "$1 $2" != '-m venv' ]; then exec {sys.executable} "$@"; fi
mkdir -p "$4/bin"
cat >"$4/bin/python" <<'END'
#!/bin/sh
if [ "$1 $2" = '-m pip' ]; then {pip}; fi
PRETENDED_VENV=${{0%/bin/python}} exec {sys.executable} "$@"
END
chmod +x "$4/bin/python\"""",
        )

    def user(self, number: int) -> None:
        (self.bin / "id").unlink()
        self.program("id", f"echo {number}")

    @property
    def env(self) -> dict[str, str]:
        return {"PATH": str(self.bin), "HOME": str(self.cache), "FLEET_CACHE": str(self.cache)}

    def fleet(self, *args: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [str(self.root / "fleet"), *args],
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
        )

    @property
    def apt_calls(self) -> list[str]:
        return self.apt_log.read_text().splitlines() if self.apt_log.exists() else []

    def at_terminal(self, answer: bytes, *args: str) -> tuple[int, str]:
        """Run as a person at a terminal who answers the first question; exit code and all that was said."""
        pid, terminal = pty.fork()
        if pid == 0:
            os.execve(self.root / "fleet", [str(self.root / "fleet"), *args], self.env)
        said, asked, end = b"", False, time.monotonic() + SECONDS
        while time.monotonic() < end:
            ready, _, _ = select.select([terminal], [], [], 1.0)
            try:
                said += os.read(terminal, 4096) if ready else b""
            except OSError:  # ended
                break
            if b"[Y/n]" in said and not asked:
                asked = True
                os.write(terminal, answer)
        os.close(terminal)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), said.decode()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_says_what_and_why_then_installs(machine: Machine) -> None:
    machine.apt_get()
    done = machine.fleet("run", "--board", "1")
    assert done.returncode == 0, done
    assert "emulator               emulates the board" in done.stderr
    assert "present" not in done.stderr
    assert "builder" not in done.stderr  # "run" builds nothing
    assert machine.apt_calls == ["-q update", "-q install -y --no-install-recommends emulator"]
    assert done.stdout.startswith("CLI ['run', '--board', '1']")


def test_second_time_there_is_nothing_to_do(machine: Machine) -> None:
    machine.apt_get()
    machine.fleet("run")
    calls = machine.apt_calls
    done = machine.fleet("run")
    assert machine.apt_calls == calls
    assert done.stderr == ""


@pytest.mark.parametrize("args", [("--help",), ("up", "--help"), ("test", "-h"), ("status",), ("down",), ()])
def test_help_and_looking_install_nothing(machine: Machine, args: tuple[str, ...]) -> None:
    machine.apt_get()
    assert machine.fleet(*args).stdout.startswith("CLI")
    assert machine.apt_calls == []
    assert not machine.cache.exists()


def test_help_behind_two_dashes_is_the_commands(machine: Machine) -> None:
    machine.apt_get()
    machine.quick_venv()
    machine.fleet("build", "--", "--help")
    assert machine.apt_calls


def test_person_at_a_terminal_is_asked_and_may_refuse(machine: Machine) -> None:
    machine.apt_get()
    code, said = machine.at_terminal(b"n\n", "run")
    assert code == 2
    assert said.index("emulates the board") < said.index("[Y/n]")
    assert "nothing was installed" in said
    assert machine.apt_calls == []


def test_person_at_a_terminal_agrees(machine: Machine) -> None:
    machine.apt_get()
    code, said = machine.at_terminal(b"\n", "run")
    assert (code, "CLI" in said) == (0, True)
    assert len(machine.apt_calls) == 2


def test_yes_asks_nothing(machine: Machine) -> None:
    machine.apt_get()
    code, said = machine.at_terminal(b"n\n", "run", "--yes")
    assert (code, "[Y/n]" in said) == (0, False)


def test_no_apt(machine: Machine) -> None:
    done = machine.fleet("run")
    assert done.returncode == 2
    assert "this system has no apt-get" in done.stderr


def test_neither_root_nor_sudo(machine: Machine) -> None:
    machine.apt_get()
    machine.user(1000)
    done = machine.fleet("run")
    assert done.returncode == 2
    assert "run as root: apt-get install --no-install-recommends emulator" in done.stderr
    assert machine.apt_calls == []


def test_sudo(machine: Machine) -> None:
    machine.apt_get()
    machine.user(1000)
    machine.program("sudo", f'echo "sudo $1" >>{machine.apt_log}\nexec "$@"')
    assert machine.fleet("run").returncode == 0
    assert machine.apt_calls[:2] == ["sudo apt-get", "-q update"]


def test_failing_apt(machine: Machine) -> None:
    machine.apt_get(then="echo 'E: no network' >&2; exit 100")
    done = machine.fleet("run")
    assert done.returncode == 2
    assert "E: no network" in done.stderr
    assert done.stderr.endswith("apt-get failed, see above\n       mend it, or install by hand: emulator\n")


def test_no_python(machine: Machine) -> None:
    (machine.bin / "python3").unlink()
    done = machine.fleet("status")
    assert done.returncode == 2
    assert "Python 3.11 or newer was not found" in done.stderr


def test_old_python_is_passed_over(machine: Machine) -> None:
    machine.program("python3", "exit 1")  # what the version check comes to
    machine.program("python3.12", f'exec {sys.executable} "$@"')
    assert machine.fleet("status").stdout.startswith("CLI")


def test_environment_is_made_once_and_kept(machine: Machine) -> None:
    machine.apt_get()
    first = machine.fleet("build")
    assert first.returncode == 0, first
    assert "installing the Python packages of tools/requirements.txt" in first.stderr
    assert f"{machine.cache}/venv-" in first.stdout
    asked = machine.python_log.read_text()
    second = machine.fleet("build")
    assert second.stdout == first.stdout
    assert second.stderr == ""
    assert machine.python_log.read_text() == asked  # only the environment's own Python ran
    # and a command that needs nothing uses it, too
    assert f"{machine.cache}/venv-" in machine.fleet("status").stdout


def test_each_list_of_packages_has_an_environment_of_its_own(machine: Machine) -> None:
    machine.apt_get()
    machine.quick_venv()
    build = machine.fleet("build").stdout
    assert machine.fleet("test").stdout.split()[-1] != build.split()[-1]
    (machine.root / "tools" / "requirements.txt").write_text("# something else\n")
    assert machine.fleet("build").stdout != build


def test_packages_without_a_hash_are_refused(machine: Machine) -> None:
    machine.apt_get()
    log = machine.root.parent / "pip.log"
    machine.quick_venv(pip=f'echo "$*" >{log}; exit 0')
    machine.fleet("test")
    call = log.read_text()
    assert "--require-hashes" in call
    for folder in ("tools", "tests"):
        assert f"--requirement={machine.root}/{folder}/requirements.txt" in call


def test_half_made_environment_is_made_again(machine: Machine) -> None:
    machine.apt_get()
    machine.quick_venv()
    first = machine.fleet("build")
    (environment,) = (path for path in machine.cache.iterdir() if path.is_dir())
    (environment / ".ready").unlink()  # as after a kill
    (environment / "bin" / "python").unlink()
    assert machine.fleet("build").stdout == first.stdout


def test_environment_whose_interpreter_has_gone_is_made_again(machine: Machine) -> None:
    machine.apt_get()
    machine.quick_venv()
    first = machine.fleet("build")
    (environment,) = (path for path in machine.cache.iterdir() if path.is_dir())
    (environment / ".ready").write_text("/usr/bin/python3.4\n")  # as after an upgrade of the system
    second = machine.fleet("build")
    assert "installing the Python packages" in second.stderr
    assert second.stdout == first.stdout


def test_packages_that_cannot_be_had(machine: Machine) -> None:
    machine.apt_get()
    machine.quick_venv(pip="echo 'ERROR: hashes do not match' >&2; exit 1")
    done = machine.fleet("build")
    assert done.returncode == 2
    assert "ERROR: hashes do not match" in done.stderr
    assert "cannot be made, see above" in done.stderr
    assert machine.fleet("build").returncode == 2  # and it is not taken for ready


def test_works_from_anywhere_and_through_a_link(machine: Machine, tmp_path: Path) -> None:
    link = tmp_path / "elsewhere" / "fleet"
    link.parent.mkdir()
    link.symlink_to(machine.root / "fleet")
    done = subprocess.run(
        [link, "status"], env=machine.env, cwd="/", stdout=subprocess.PIPE, text=True, check=True
    )
    assert done.stdout.startswith("CLI ['status']")


def test_the_real_table_has_a_reason_for_each_package() -> None:
    for line in (REPOSITORY / "tools" / "packages.txt").read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            group, package, probe, reason = (field.strip() for field in line.split("|", 3))
            assert group in ("python", "build", "board", "test")
            assert package
            assert probe
            assert len(reason) > 10
