# SPDX-License-Identifier: Apache-2.0
"""The engine at work: real builds of the small metadata tree in data/engine."""

import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bitbake.lib.fleet_engine import framing
from fleet_cli import engine

LAYER = Path(__file__).parent / "data/engine/layer"
PATIENCE = 120.0
"""Seconds after which something that should happen is held to never happen."""


def wait_for(what: str, condition: Callable[[], bool]) -> None:
    """Wait until `condition` holds."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError(f"{what}: not within {PATIENCE:.0f} s")


class Running:
    """A bitbake that runs; stdout and stderr go, as one stream, into a file."""

    def __init__(self, command: list[str], directory: Path, environment: dict[str, str]) -> None:
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115 - read until the end
        self.process = subprocess.Popen(
            command,
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=self._said,
            stderr=subprocess.STDOUT,
        )

    def said(self) -> str:
        """Return all that it has said so far."""
        return os.pread(self._said.fileno(), 1 << 30, 0).decode()

    def interrupt(self) -> None:
        """Send what Ctrl-C sends."""
        self.process.send_signal(signal.SIGINT)

    def finish(self) -> str:
        """Wait for its end and return what it said."""
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"bitbake hangs; it said: {self.said()}") from None
        return self.said()


class Build:
    """A build directory of the small tree, and BitBake in it."""

    def __init__(self, directory: Path, engine_root: Path) -> None:
        self.directory = directory
        self.engine = engine_root
        self.out = directory / "out"
        self.environment = {
            "PATH": f"{engine_root}/bin:{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(directory),
        }
        (directory / "conf").mkdir(parents=True)
        (directory / "conf/bblayers.conf").write_text(
            f'BBPATH = "${{TOPDIR}}"\nBBFILES ?= ""\nBBLAYERS = "{LAYER}"\n'
        )
        self.configure("")

    def configure(self, text: str) -> None:
        """Set the content of local.conf."""
        (self.directory / "conf/local.conf").write_text(text)

    def start(self, *arguments: str) -> "Running":
        """Start bitbake."""
        return Running(["bitbake", *arguments], self.directory, self.environment)

    def good(self, *arguments: str) -> str:
        """Run bitbake, which must succeed, and return what it said."""
        bitbake = self.start(*arguments)
        output = bitbake.finish()
        assert bitbake.process.returncode == 0, output
        return output

    def bad(self, *arguments: str) -> str:
        """Run bitbake, which must fail with exit code 1 and without a traceback; return what it said."""
        bitbake = self.start(*arguments)
        output = bitbake.finish()
        assert bitbake.process.returncode == 1, output
        assert "Traceback" not in output
        return output

    def order(self) -> list[str]:
        """Return the tasks that ran, in order, and forget them."""
        path = self.out / "order"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return lines

    def clean(self) -> None:
        """Delete all that was built, but not the shared state."""
        shutil.rmtree(self.directory / "tmp")

    def pids(self, text: str = "") -> list[int]:
        """Return the living processes of this build whose command line contains `text`."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                command = process.joinpath("cmdline").read_bytes().replace(b"\0", b" ").decode()
                here = process.joinpath("cwd").readlink().is_relative_to(self.directory)
            except OSError:  # gone, or a zombie, which has neither
                continue
            if (here or str(self.directory) in command) and text in command:
                found.append(int(process.name))
        return found

    def wait_until_gone(self, text: str = "") -> None:
        """Wait until no such process is left."""
        wait_for(f"end of {text or 'all processes'}", lambda: not self.pids(text))

    def started(self, name: str) -> int:
        """Wait until the task that writes `name` runs; return the number of its shell."""
        path = self.out / name
        wait_for(name, path.exists)
        return int(path.read_text())


@pytest.fixture(scope="session")
def engine_root() -> Path:
    """Return the real engine, from the user's cache or the package index."""
    return engine.ensure_engine(engine.default_cache())


@pytest.fixture
def build(tmp_path: Path, engine_root: Path) -> Iterator[Build]:
    """Return an empty build directory; the test must leave no process in it."""
    directory = tmp_path / "build"
    build = Build(directory, engine_root)
    try:
        yield build
        build.wait_until_gone()
    finally:
        for pid in build.pids():
            os.kill(pid, signal.SIGKILL)


# --- what a build does -----------------------------------------------------------------------------


def test_build_runs_tasks_in_order_once(build: Build) -> None:
    build.good("hello")
    order = build.order()
    assert sorted(order) == sorted(
        f"{recipe} {task}" for recipe in ("hello", "library") for task in ("fetch", "compile", "install")
    )
    assert order.index("library install") < order.index("hello install")
    assert order.index("hello fetch") < order.index("hello compile") < order.index("hello install")

    build.good("hello")
    assert build.order() == []

    build.configure('MINI_FLAGGED = "an input of hello\'s do_compile"\n')
    build.good("hello")
    assert build.order() == ["hello compile", "hello install"]


def test_a_task_sees_its_own_world(build: Build) -> None:
    build.environment |= {
        "SECRET": "of the caller",
        "LET_IN": "yes",
        "BB_ENV_PASSTHROUGH_ADDITIONS": "LET_IN",
    }
    build.configure('export LET_IN\nBB_NUMBER_THREADS = "1"\n')
    build.good("hello", "-c", "report")

    environment = dict(line.split("=", 1) for line in (build.out / "hello.env").read_text().splitlines())
    assert environment["MINI_EXPORTED"] == "exported by the metadata"
    assert environment["MINI_FLAGGED"] == "handed over by the exports flag"
    assert environment["LET_IN"] == "yes"
    assert not {"MINI_HIDDEN", "SECRET", "NOT_EXPORTED"} & set(environment)
    assert (build.out / "hello.umask").read_text() == "0077\n"
    assert re.fullmatch("compile [0-9a-f]{64}\n", (build.out / "hello.task").read_text())
    assert (build.out / "report").read_text() == "report 64 1\nexported by the metadata\n"


def test_questions_run_no_task(build: Build) -> None:
    build.environment["BB_SERVER_TIMEOUT"] = "60"  # one server for all of them
    assert re.search(r'^PF="hello-1\.0"$', build.good("-e", "hello"), re.MULTILINE)
    assert re.search(r'^export MINI_EXPORTED="exported', build.good("-e"), re.MULTILINE)
    build.good("-p")
    build.good("-n", "hello")
    build.good("-g", "hello")
    graph = (build.directory / "task-depends.dot").read_text()
    assert '"hello.do_install" -> "library.do_install"' in graph
    build.good("-S", "none", "hello")
    assert list((build.directory / "tmp/stamps").glob("hello-1.0.do_install.sigdata.*"))
    assert "hello" in build.good("-s")
    getvar = ["bitbake-getvar", "--recipe", "hello", "--flag", "umask", "--value", "do_compile"]
    answer = subprocess.run(
        getvar, cwd=build.directory, env=build.environment, capture_output=True, text=True, check=True
    )
    assert answer.stdout == "077\n"
    assert build.order() == []
    build.good("-m")


def test_the_server_stays_as_long_as_told_and_ends_when_told(build: Build) -> None:
    build.environment["BB_SERVER_TIMEOUT"] = "600"
    build.good("-p")
    (server,) = build.pids("bitbake-server")
    build.good("hello")
    assert build.pids("bitbake-server") == [server]
    build.good("-m")
    build.wait_until_gone()


def test_other_configurations_build_beside_the_first(build: Build) -> None:
    build.configure('BBMULTICONFIG = "other"\n')
    build.good("hello", "mc:other:hello")
    assert "hello install" in build.order()
    # The same input: the second configuration waits for the first one's result and takes it over.
    other = build.directory / "out-other"
    assert "hello install_setscene" in (other / "order").read_text().splitlines()
    assert set((other / "restored").read_text().splitlines()) == {"install_setscene"}


def test_results_of_shared_state_stand_for_tasks(build: Build) -> None:
    build.good("hello")
    build.clean()
    build.order()

    build.good("hello")
    assert build.order() == ["hello install_setscene"]

    build.clean()
    for result in (build.directory / "state").iterdir():
        if "hello" in result.read_text():
            result.write_text("poisoned")
    output = build.good("hello")
    assert "real task will be run instead" in output
    order = build.order()
    assert "hello install" in order
    assert "hello install_setscene" not in order


# --- isolation -------------------------------------------------------------------------------------


def test_only_a_task_with_the_network_flag_has_a_network(build: Build) -> None:
    build.good("network", "-c", "compile")
    with_space, with_interfaces, with_reach, with_uid = (build.out / "with-network").read_text().split()
    space, interfaces, reach, uid = (build.out / "without-network").read_text().split()

    assert with_space == Path("/proc/self/ns/net").readlink().name
    assert with_reach == "reached"
    assert "lo" in with_interfaces.split(",")
    assert space != with_space
    assert interfaces == "lo"
    assert reach == "refused"
    assert uid == with_uid == str(os.getuid())


def test_a_fakeroot_task_runs_under_the_fakeroot_program(build: Build) -> None:
    build.good("rooted")
    assert (build.out / "rooted.install").read_text() == "on=yes wrapped=yes worker=\nstate\n"
    assert (build.out / "rooted.compile").read_text() == "on=no wrapped=\n"
    calls = (build.out / "pretend.log").read_text().splitlines()
    assert calls[0].startswith("python")  # the worker
    assert calls[1].startswith("run.do_install.")  # the task's shell script
    assert calls[2:] == ["-S"]  # the task is over


@pytest.mark.skipif(shutil.which("fakeroot") is None, reason="Debian's fakeroot is not installed")
def test_a_real_fakeroot_keeps_owners_without_a_network(build: Build, tmp_path: Path) -> None:
    wrapper = tmp_path / "fakeroot-wrapper"
    wrapper.write_text('#!/bin/sh\n[ "$1" = -S ] && exit 0\nexec fakeroot -- "$@"\n')
    wrapper.chmod(0o755)
    build.configure(
        f'FAKEROOT = "{wrapper}"\nFAKEROOTCMD = "{wrapper}"\nFAKEROOTBASEENV = ""\n'
        'FAKEROOTENV = "FAKEROOTDONTTRYCHOWN=1"\n'
    )
    build.good("owned")
    assert (build.out / "owned").read_text() == "1234 5678\nno network\n"


# --- what goes wrong -------------------------------------------------------------------------------


def test_a_failing_task_names_its_log(build: Build) -> None:
    output = build.bad("broken")
    (log,) = set(re.findall(r"(/\S+/log\.do_compile\.\d+)$", output, re.MULTILINE))
    assert "the reason for the failure" in Path(log).read_text()
    assert "1 task failed" in output


def test_a_task_that_dies_fails_the_build(build: Build) -> None:
    assert "do_die) failed with exit code '137'" in build.bad("broken", "-c", "die")


def test_an_unknown_target_is_named(build: Build) -> None:
    assert "Nothing PROVIDES 'no-such-recipe'" in build.bad("no-such-recipe")


def test_outside_a_build_directory_it_says_so(build: Build, tmp_path: Path) -> None:
    build.directory = tmp_path / "elsewhere"
    build.directory.mkdir()
    assert "did not find a conf/bblayers.conf" in build.bad("hello")
    assert not (build.directory / "bitbake-ui.lock").exists()


def test_in_a_deleted_directory_it_says_so(build: Build) -> None:
    script = f"mkdir gone && cd gone && rmdir ../gone && exec python3 {build.engine}/bin/bitbake hello"
    bitbake = Running(["/bin/sh", "-c", script], build.directory, build.environment)
    assert bitbake.finish() == "bitbake: the current directory does not exist any more.\n"
    assert bitbake.process.returncode == 1


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ('BB_HASHSERVE = "auto"', "Remove BB_HASHSERVE"),
        ('PRSERV_HOST = "localhost:0"', "Remove PRSERV_HOST"),
    ],
)
def test_a_service_that_is_not_there_is_refused(build: Build, setting: str, message: str) -> None:
    build.configure(setting + "\n")
    assert message in build.bad("hello")


def test_events_that_were_sent_are_seen_even_if_nobody_read_them_yet(engine_root: Path) -> None:
    script = """
import os
from fleet_engine import ui
from bb.server.process import ConnectionWriter
class Starved(ui.EventQueue):
    def startCallbackHandler(self):
        self._closing.wait()
events, events_write = os.pipe()
queue, writer = Starved(events), ConnectionWriter(events_write)
for word in ("why", "it", "failed"):
    writer.send(word)
print([queue.waitEvent(0) for _ in range(4)])
writer.close()
print(queue.waitEvent(0))
queue.close()
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": str(engine_root / "lib")},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    assert done.stdout == "['why', 'it', 'failed', None]\nNone\n"


def test_another_version_of_bb_is_refused(build: Build, engine_root: Path, tmp_path: Path) -> None:
    other = tmp_path / "other engine"
    shutil.copytree(engine_root, other)
    init = other / "lib/bb/__init__.py"
    init.write_text(init.read_text().replace('__version__ = "2.19.0"', '__version__ = "2.20.0"'))
    build.environment["PATH"] = f"{other}/bin:" + build.environment["PATH"]
    output = build.bad("hello")
    assert f"found BitBake 2.20.0 in {other}/lib/bb, but this engine works with 2.19.0 only" in output
    assert output.count("\n") == 1


def test_floods_of_events_block_nobody(build: Build) -> None:
    output = build.good("chatty")
    assert "one said it all" in output
    assert "two said it all" in output


@pytest.mark.parametrize(
    ("task", "mark"),
    [("compile", "sleeper.pid"), ("linger", "linger.pid")],
    ids=["sleeps", "ignores SIGTERM"],
)
def test_ctrl_c_twice_stops_all_processes(build: Build, task: str, mark: str) -> None:
    bitbake = build.start("sleeper", "-c", task)
    shell = build.started(mark)
    bitbake.interrupt()
    wait_for("answer to Ctrl-C", lambda: "Keyboard Interrupt, closing down" in bitbake.said())
    assert shell in build.pids()  # the first one lets tasks finish
    bitbake.interrupt()
    assert "returning a non-zero exit code" in bitbake.finish()
    assert bitbake.process.returncode == 1
    build.wait_until_gone()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_bitbake_takes_its_build_along_when_told_to_end(build: Build, number: signal.Signals) -> None:
    bitbake = build.start("sleeper")
    shell = build.started("sleeper.pid")
    bitbake.process.send_signal(number)
    assert "returning a non-zero exit code" in bitbake.finish()
    assert bitbake.process.returncode == 1
    assert shell not in build.pids()
    build.wait_until_gone()


def test_a_killed_worker_fails_the_build(build: Build) -> None:
    bitbake = build.start("sleeper")
    build.started("sleeper.pid")
    worker = min(build.pids("bitbake-worker"))  # its child, the task, came later
    os.kill(worker, signal.SIGKILL)
    assert f"Worker process ({worker}) exited unexpectedly (-9)" in bitbake.finish()
    assert bitbake.process.returncode == 1
    build.wait_until_gone()


def test_a_killed_server_fails_the_build(build: Build) -> None:
    bitbake = build.start("sleeper")
    build.started("sleeper.pid")
    os.kill(min(build.pids("bitbake-server")), signal.SIGKILL)
    assert "The BitBake server ended unexpectedly" in bitbake.finish()
    assert bitbake.process.returncode == 1
    build.wait_until_gone()


def test_a_second_bitbake_in_the_same_directory_is_refused(build: Build) -> None:
    first = build.start("sleeper")
    build.started("sleeper.pid")
    for second in (("hello",), ("-e",), ("-m",)):
        output = build.bad(*second)
        assert f"another bitbake (process {first.process.pid}) is at work in {build.directory}" in output
        assert output.count("\n") == 1
    assert first.process.poll() is None
    assert build.order() == ["sleeper fetch"]
    first.interrupt()
    wait_for("answer to Ctrl-C", lambda: "Keyboard Interrupt, closing down" in first.said())
    first.interrupt()
    first.finish()


# --- the worker, by its protocol alone ---------------------------------------------------------------


@pytest.fixture
def worker(engine_root: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Return a worker process without a server."""
    process = subprocess.Popen(
        [sys.executable, engine_root / "bin/bitbake-worker", "decafbad"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    yield process
    process.kill()
    process.communicate()


def request(name: str, value: object) -> bytes:
    """Frame a request as the server does."""
    payload = pickle.dumps(value)
    return f"<{name}>".encode() + len(payload).to_bytes(4, "big") + payload + f"</{name}>".encode()


def test_worker_quits_when_told(worker: "subprocess.Popen[bytes]") -> None:
    output, _ = worker.communicate(request("ping", b"") + request("quit", b"") + b"<never", timeout=PATIENCE)
    assert worker.returncode == 0
    assert output.count(b"<event>") == output.count(b"</event>") == 1  # the answer to the ping, for the log


def test_worker_listens_while_nobody_reads_its_answers(worker: "subprocess.Popen[bytes]") -> None:
    count = 20_000  # megabytes in both directions, far more than two pipes hold
    requests = request("ping", b"") * count + request("quit", b"")
    assert worker.stdin is not None
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(worker.stdin.write, requests)
        try:
            assert done.result(PATIENCE) == len(requests)
        except TimeoutError:
            worker.kill()
            raise
    output, _ = worker.communicate(timeout=PATIENCE)
    assert worker.returncode == 0
    assert output.count(b"<event>") == count


def test_the_last_words_of_a_task_come_before_its_end(engine_root: Path) -> None:
    # A task that has ended while the worker was busy: its pipe is full of events, nobody polled it.
    script = """
import os
from fleet_engine import framing, worker
replies, replies_write = os.pipe()
subject = worker.Worker(os.open(os.devnull, os.O_RDONLY), replies_write)
events, events_write = os.pipe()
pid = os.fork()
if pid == 0:
    os.write(events_write, b"".join(framing.from_task(b"word %d" % n) for n in range(1000)) + b"half")
    os._exit(7)
os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
subject._children[pid] = worker._Child("recipe:do_task", events)  # its write end stays open here, too
subject._reap()
print(subject._output.decode("latin-1"))
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": str(engine_root / "lib")},
        capture_output=True,
        timeout=PATIENCE,
        check=True,
    )
    words, _, end = done.stdout.decode().partition("<exitcode>")
    assert words == "".join(f"<event>word {number}</event>" for number in range(1000))
    assert pickle.loads(end.encode("latin-1")) == ("recipe:do_task", 7)


def test_worker_dies_with_its_server(worker: "subprocess.Popen[bytes]") -> None:
    worker.communicate(b"", timeout=PATIENCE)
    assert worker.returncode == -signal.SIGTERM


@pytest.mark.parametrize("junk", [b"junk", request("dance", b"")], ids=["no message", "unknown message"])
def test_worker_refuses_what_it_does_not_understand(worker: "subprocess.Popen[bytes]", junk: bytes) -> None:
    output, _ = worker.communicate(junk, timeout=PATIENCE)
    assert worker.returncode == 1
    assert output.startswith(b"<event>")
    assert framing.FramingError.__name__.encode() in output


@pytest.mark.parametrize("program", ["bitbake-worker", "bitbake-server"])
def test_inner_programs_are_not_for_hands(engine_root: Path, program: str) -> None:
    done = subprocess.run([engine_root / "bin" / program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "not by hand" in done.stderr
    assert done.stderr.count("\n") == 1
