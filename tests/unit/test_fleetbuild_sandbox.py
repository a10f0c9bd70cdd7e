# SPDX-License-Identifier: Apache-2.0
"""The build sandbox, on this machine's own programs: its root is the sysroot here."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from fleetbuild import BuildError, sandbox

LIBRARY = str(Path(__file__).parents[2] / "meta-fleet/core/lib")
pytestmark = pytest.mark.skipif(
    not shutil.which("bwrap") or not sandbox.isolation_works(), reason="needs bubblewrap and user namespaces"
)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


def shell(work: Path, script: str, *, root: bool = False) -> str:
    return sandbox.run("/", work, ["sh", "-ec", script], root=root)


class TestCommandLine:
    def words(self, **options: object) -> list[str]:
        return sandbox.command("/sysroot", Path("/work"), **options)  # type: ignore[arg-type]

    def test_it_ends_where_the_command_begins(self) -> None:
        assert self.words()[0] == "bwrap"
        assert self.words()[-1] == "--"

    def test_it_is_the_same_every_time(self) -> None:
        assert self.words() == self.words()

    def test_nothing_of_the_host_is_bound_but_what_is_asked_for(self) -> None:
        words = self.words(read_only={"/src": "/kernel"})
        binds = {words[i]: words[i + 1 : i + 3] for i in range(len(words)) if "bind" in words[i]}
        assert binds == {
            "--ro-bind": ["/src", "/kernel"],
            "--ro-bind-try": ["/sysroot/etc", "/etc"],
            "--bind": ["/work", "/build"],
        }
        first = words.index("--ro-bind")
        assert words[first : first + 3] == ["--ro-bind", "/sysroot/usr", "/usr"]

    def test_the_environment_can_be_added_to_and_changed(self) -> None:
        words = self.words(environment={"SOURCE_DATE_EPOCH": "5", "HOME": "/build"})
        names = [words[i + 1] for i in range(len(words)) if words[i] == "--setenv"]
        values = {words[i + 1]: words[i + 2] for i in range(len(words)) if words[i] == "--setenv"}
        assert (values["SOURCE_DATE_EPOCH"], values["HOME"], values["TZ"]) == ("5", "/build", "UTC")
        assert len(names) == len(set(names))

    def test_capabilities_are_given_to_root_alone(self) -> None:
        assert "--cap-add" not in self.words()
        assert "CAP_SYS_CHROOT" in self.words(root=True)


class TestRun:
    def test_only_build_and_scratch_folders_can_be_written(self, work: Path) -> None:
        folders = "/ /usr /etc /usr/bin /build /tmp /run"
        script = f"for f in {folders}; do (: > $f/probe) 2> /dev/null && echo $f; done; :"
        for root in (False, True):
            assert shell(work, script, root=root).split() == ["/build", "/tmp", "/run"]
        assert [path.name for path in work.iterdir()] == ["probe"]

    def test_the_hosts_files_are_not_there(self, work: Path, tmp_path: Path) -> None:
        (tmp_path / "secret").touch()
        assert shell(work, f"ls -d / /home /root /var /sys {tmp_path}/secret 2> /dev/null || :").split() == [
            "/"
        ]
        assert shell(work, "ls -A /tmp /run | grep -v :") == "\n"

    def test_user_host_and_folder_are_fixed(self, work: Path) -> None:
        script = "id -u; id -g; hostname; pwd; umask"
        before = os.umask(0o077)
        try:
            assert shell(work, script).split() == ["1000", "1000", "fleet", "/build", "0022"]
            assert shell(work, script, root=True).split() == ["0", "0", "fleet", "/build", "0022"]
        finally:
            os.umask(before)

    def test_what_is_made_inside_belongs_to_the_caller(self, work: Path) -> None:
        shell(work, "touch one")
        shell(work, "touch two", root=True)
        assert {path.stat().st_uid for path in work.iterdir()} == {os.getuid()}

    def test_the_callers_environment_stays_outside(self, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FLEET_SECRET", "x")
        monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
        monkeypatch.setenv("PYTHONHASHSEED", "7")
        lines = dict(line.split("=", 1) for line in sandbox.run("/", work, ["env"]).splitlines())
        lines.pop("PWD", None)
        assert lines == {
            "PATH": "/usr/bin:/usr/sbin",
            "HOME": "/tmp",
            "LC_ALL": "C.UTF-8",
            "TZ": "UTC",
            "USER": "builder",
            "LOGNAME": "builder",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONHASHSEED": "0",
        }

    def test_there_is_no_network(self, work: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            connect = f"exec 3<> /dev/tcp/127.0.0.1/{server.getsockname()[1]}"
            subprocess.run(["bash", "-c", connect], check=True)
            with pytest.raises(BuildError, match=r"refused|unreachable"):
                sandbox.run("/", work, ["bash", "-c", connect])
        assert shell(work, "cut -d: -f1 /proc/net/dev | tail -n +3").split() == ["lo"]

    def test_other_processes_are_not_seen(self, work: Path) -> None:
        assert int(shell(work, "ls -d /proc/[0-9]* | wc -l")) < 10

    def test_standard_input_is_empty(self, work: Path) -> None:
        reading, writing = os.pipe()
        os.write(writing, b"of the caller\n")
        os.close(writing)
        before = os.dup(0)
        os.dup2(reading, 0)
        try:
            assert shell(work, "cat; echo end") == "end\n"
        finally:
            os.dup2(before, 0)
            os.close(before)
            os.close(reading)

    def test_further_paths_can_be_read_only(self, work: Path, tmp_path: Path) -> None:
        (tmp_path / "src").mkdir()
        (tmp_path / "src/file").write_text("text")
        paths = {str(tmp_path / "src"): "/kernel"}
        assert sandbox.run("/", work, ["cat", "/kernel/file"], read_only=paths) == "text"
        with pytest.raises(BuildError, match="Read-only file system"):
            sandbox.run("/", work, ["touch", "/kernel/x"], read_only=paths)

    def test_a_sysroot_needs_nothing_but_usr(self, work: Path, tmp_path: Path) -> None:
        sysroot = tmp_path / "sysroot"
        sysroot.mkdir()
        (sysroot / "usr").symlink_to("/usr")
        assert (
            sandbox.run(sysroot, work, ["ls", "/etc"], read_only={"/etc/hostname": "/etc/hostname"})
            == "hostname\n"
        )

    def test_root_may_chroot_and_others_may_not(self, work: Path) -> None:
        shell(work, "chroot / true", root=True)
        with pytest.raises(BuildError, match="Operation not permitted"):
            shell(work, "chroot / true")

    def test_it_works_in_the_namespace_of_a_task_without_network(self, work: Path) -> None:
        words = sandbox.command("/", work)
        output = subprocess.run(
            ["unshare", "--user", "--map-current-user", "--net", *words, "id", "-u"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        assert output == "1000\n"


class TestFailure:
    def test_the_last_lines_and_the_code_are_told(self, work: Path) -> None:
        with pytest.raises(BuildError) as caught:
            shell(work, "seq 100; echo wrong >&2; exit 7")
        lines = str(caught.value).splitlines()
        assert lines[0] == "'sh -ec seq 100; echo wrong >&2; exit 7' failed with 7 in the sandbox:"
        assert lines[1:] == [*(str(number) for number in range(82, 101)), "wrong"]

    def test_output_need_not_be_text(self, work: Path) -> None:
        assert shell(work, r"printf '\377'") == "\ufffd"

    def test_a_missing_sysroot_is_named(self, work: Path, tmp_path: Path) -> None:
        with pytest.raises(BuildError, match=f"{tmp_path}/none/usr"):
            sandbox.run(tmp_path / "none", work, ["true"])

    def test_a_missing_program_is_named(self, work: Path) -> None:
        with pytest.raises(BuildError, match="no-such-program"):
            sandbox.run("/", work, ["no-such-program"])

    def test_without_bubblewrap_the_remedy_is_told(
        self, work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", str(tmp_path / "empty"))
        with pytest.raises(
            BuildError, match=r"^'bwrap' is missing .* Install the package bubblewrap, or run"
        ):
            sandbox.run("/", work, ["true"])


class TestNamespaces:
    """``isolation_works`` where namespaces are forbidden: a namespace may forbid further ones in itself."""

    PROGRAM = (
        "from fleetbuild import BuildError, sandbox\n"
        "import sys\n"
        "print(sandbox.isolation_works())\n"
        "try: sandbox.run('/', sys.argv[1], ['true'])\n"
        "except BuildError as error: print(error)\n"
    )

    def run(self, limit: str, work: Path) -> str:
        script = f'{limit} exec "$0" "$@"'
        return subprocess.run(
            [
                "unshare",
                "--user",
                "--map-root-user",
                "sh",
                "-ec",
                script,
                sys.executable,
                "-c",
                self.PROGRAM,
                work,
            ],
            env={**os.environ, "PYTHONPATH": LIBRARY},
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    def test_allowed(self, work: Path) -> None:
        assert self.run("", work) == "True\n"

    def test_forbidden(self, work: Path) -> None:
        output = self.run("echo 0 > /proc/sys/user/max_user_namespaces;", work)
        assert output.startswith("False\n'true' failed with 1 in the sandbox:\nbwrap: ")
        assert output.endswith(f"{sandbox.ALLOW_NAMESPACES}\n")

    def test_the_probe_leaves_the_caller_where_it_is(self) -> None:
        before = [Path(f"/proc/self/ns/{kind}").readlink() for kind in ("user", "net")]
        assert sandbox.isolation_works()
        assert [Path(f"/proc/self/ns/{kind}").readlink() for kind in ("user", "net")] == before
