# SPDX-License-Identifier: Apache-2.0
"""Boards for tests: one that several tests share, and fresh ones. See docs/testing.md."""

import os
import re
import shutil
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from board_harness import evidence
from board_harness.flash import copy_slot, damage
from board_harness.protocol import Board
from board_harness.shared import DAMAGED_AT, Boards, Shell

ROOT = Path(__file__).resolve().parents[2]
MACHINE = "fleet-x1"
HOST_TESTS = Path(__file__).parent / "host"

_boards = pytest.StashKey[list[Board]]()
_artefacts = pytest.StashKey[Path]()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "disruptive: resets the shared board; runs after those that do not")
    config.stash[_boards] = []
    config.stash[_artefacts] = ROOT / "build" / "test" / "artefacts" / _area(config)
    if not hasattr(config, "workerinput"):
        shutil.rmtree(config.stash[_artefacts], ignore_errors=True)  # of the last run


def _area(config: pytest.Config) -> str:
    """Area of the test suite that this run is; by what it runs when it is none of `./fleet test`."""
    paths = [(config.invocation_params.dir / word.partition("::")[0]).resolve() for word in config.args]
    usual = "power" if paths and all(path.is_relative_to(HOST_TESTS) for path in paths) else "board"
    return os.environ.get("FLEET_AREA") or usual


def pytest_sessionstart(session: pytest.Session) -> None:
    # Here and not in a fixture: with workers, an exit from one of them hides the reason behind a crash.
    if not hasattr(session.config, "workerinput") and not session.config.option.collectonly:
        _image_folder()


def _image_folder() -> Path:
    folder = Path(os.environ.get("FLEET_DEPLOY") or ROOT / "build" / "deploy" / MACHINE)
    if not (folder / f"{MACHINE}.flash.img").is_file():
        raise pytest.UsageError(
            f"there is no image in {folder}: build one with './fleet build', or set FLEET_DEPLOY"
        )
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.get_closest_marker("disruptive") is not None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep what explains a failure, while the board still stands as it failed."""
    report = yield
    if report.failed:
        name = re.sub(r"[^\w.-]+", "_", f"{item.name}-{call.when}")
        for board in item.config.stash[_boards]:
            evidence.save(board, item.config.stash[_artefacts] / name / board.name)
    return report


@pytest.fixture
def app_path() -> None:
    """Something of pytest-embedded that is not used; its own fixture writes into the JUnit file."""


@pytest.fixture
def embedded_services() -> str:
    """`dut` of pytest-embedded is a serial console; a test module says which by a fixture `port`."""
    return "serial"


@pytest.fixture(scope="session")
def deploy() -> Path:
    """Folder with the flash image and what was built beside it; FLEET_DEPLOY names another one."""
    return _image_folder()


@pytest.fixture(scope="session")
def artefacts(request: pytest.FixtureRequest) -> Path:
    """Folder for what a test leaves for people to look at."""
    folder = request.config.stash[_artefacts]
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def boards(
    deploy: Path, artefacts: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Boards]:
    """Where tests get boards of their own; the last of them end with the session."""
    running = request.config.stash[_boards]
    root = tmp_path_factory.mktemp("boards")
    # each worker numbers its boards from 0
    logs = artefacts / "logs" / os.environ.get("PYTEST_XDIST_WORKER", "main")
    boards = Boards(deploy / f"{MACHINE}.flash.img", root, running, logs)
    yield boards
    for board in list(running):
        boards.end(board)


@pytest.fixture(scope="session")
def board(boards: Boards) -> Board:
    """The board that the tests of the running system share."""
    board = boards.start()
    # Slot B is a damaged copy that nobody boots.
    board.power_off()
    copy_slot(board, "a", "b")
    damage(board, "rofs-b", DAMAGED_AT)
    board.power_on()
    return board


@pytest.fixture(scope="session")
def shell(board: Board) -> Shell:
    """Commands on the shared board, once it has booted."""
    shell = Shell(board)
    _ = shell.connection
    return shell
