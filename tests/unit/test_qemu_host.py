# SPDX-License-Identifier: Apache-2.0
"""The simulated host on fake pins and a fake KCS port."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

import pytest

import fleetboard
from fleet_qemu import QemuError, host
from fleet_qemu.board import DEFAULT_BOARD_FILE
from fleet_qemu.host import Bmc, Host
from fleet_qemu.kcs_host import KcsAbsent, Op
from fleetboard.model import Gpio

SECONDS = 60.0
X1 = fleetboard.load(DEFAULT_BOARD_FILE)
MINI = fleetboard.load(DEFAULT_BOARD_FILE.with_name("fleet-mini.toml"))


class FakePins:
    """The pins, in the sense of the board file: what is asserted."""

    def __init__(self, outputs: dict[str, bool]) -> None:
        self.asserted: dict[str, bool] = {}
        self.history: list[tuple[str, bool]] = []
        self.looks = 0
        self._outputs = outputs

    async def drive(self, pin: Gpio, high: bool) -> None:
        asserted = high != pin.active_low
        if self.asserted.get(pin.name) is not asserted:
            self.history.append((pin.name, asserted))
        self.asserted[pin.name] = asserted

    async def sample(self, pins: Iterable[Gpio]) -> dict[str, bool | None]:
        self.looks += 1
        return {
            pin.name: self._outputs[pin.name] != pin.active_low if pin.name in self._outputs else None
            for pin in pins
        }


class FakePort:
    """A KCS port that is no more than a message box: IBF is always clear, what comes is answered."""

    def __init__(self, answer: Callable[[bytes], bytes | None]) -> None:
        self._answer = answer
        self._out: list[int] = []
        self._state, self._obf = 0, False
        self._last = False
        self._request = bytearray()
        self.seen: list[bytes] = []

    async def do(self, op: Op) -> int:
        await asyncio.sleep(0)
        match op:
            case Op("status"):
                return self._state << 6 | self._obf
            case Op("read"):
                self._obf = False
                return self._out.pop(0) if self._out and self._state == 1 else 0
            case Op("command", value):
                self._state, self._last = 2, value == 0x62
                if value == 0x61:
                    self._request.clear()
            case Op("data", value) if self._state == 2:
                self._request.append(value)
                if self._last:
                    self._respond()
            case Op("data"):
                self._state, self._obf = (1, True) if self._out else (0, True)
        return 0

    def _respond(self) -> None:
        self.seen.append(bytes(self._request))
        answer = self._answer(bytes(self._request))
        self._state = 3 if answer is None else 1  # in its error state when it has no answer
        self._out, self._obf = list(answer or b""), answer is not None


def ok(request: bytes) -> bytes:
    return bytes([request[0] | 4, request[1], 0])


class Scene:
    """A host, and a BMC that the test plays."""

    def __init__(self, board: fleetboard.Board) -> None:
        self.board = board
        self.events: list[tuple[str, Mapping[str, Any]]] = []
        self.host = Host(board, lambda name, details: self.events.append((name, details)))
        self.host.start()
        self.host.set({"post_scale": 0.02, "shutdown": 0.05, "power_good": 0.01, "reset": 0.01})
        self.outputs: dict[str, bool] = {}
        self.answer: Callable[[bytes], bytes | None] = ok
        self._terminals: list[int] = []
        self.pins = FakePins(self.outputs)
        self.port = FakePort(ok)

    async def power(self) -> None:
        """Give the BMC power."""
        far, near = os.openpty()
        self._terminals += [far, near]
        self.pins = FakePins(self.outputs)
        self.port = FakePort(lambda request: self.answer(request))
        await self.host.connect(Bmc(self.pins, self.port, os.ttyname(near)))

    async def until(self, condition: Callable[[], object]) -> None:
        while not condition():
            await asyncio.sleep(0.005)

    async def state(self, name: str, phase: str = "") -> None:
        await self.until(
            lambda: self.host.status()["state"] == name and phase in ("", self.host.status()["phase"])
        )

    async def press(self, seconds: float = 0.1) -> None:
        self.outputs["POWER_OUT"] = False
        looks = self.pins.looks
        await self.until(lambda: self.pins.looks > looks + 1)  # it has been seen released
        self.outputs["POWER_OUT"] = True
        await asyncio.sleep(seconds)
        self.outputs["POWER_OUT"] = False

    def recorded(self, name: str) -> list[Mapping[str, Any]]:
        return [details for event, details in self.events if event == name]

    async def close(self) -> None:
        await self.host.close()
        for terminal in self._terminals:
            os.close(terminal)


def play(script: Callable[[Scene], Awaitable[None]], board: fleetboard.Board = X1) -> None:
    async def run() -> None:
        scene = Scene(board)
        try:
            async with asyncio.timeout(SECONDS):
                await script(scene)
        finally:
            await scene.close()
        assert scene.recorded("error") == []

    asyncio.run(run())


def test_the_bmc_finds_a_host_in_standby() -> None:
    async def script(scene: Scene) -> None:
        await scene.host.mains(True)
        await scene.power()
        on = {name for name, asserted in scene.pins.asserted.items() if asserted}
        assert on == {"SLP_S5", "PLTRST", "PSU0_PRESENT"}
        status = scene.host.status()
        assert (status["state"], status["bmc_power"], status["hears"]) == ("off", True, [])

    play(script)


@pytest.mark.parametrize("board", [X1, MINI], ids=["x1", "mini"])
def test_boot_and_soft_off(board: fleetboard.Board) -> None:
    async def script(scene: Scene) -> None:
        await scene.host.mains(True)
        await scene.power()
        scene.pins.history.clear()
        await scene.press()
        await scene.state("os", "login")
        assert scene.pins.history == [
            *(("SLP_S5", False), ("PS_PWROK", True), ("PLTRST", False), ("POST_COMPLETE", True)),
        ]
        requests = [request.hex() for request in scene.port.seen]
        assert requests[:2] == ["1801", "18068282"]
        assert requests[-2:] == ["18068080", "100241041f1f6f01ffff"]
        exchanges = scene.recorded("ipmi")
        assert [exchange["request"] for exchange in exchanges] == requests
        assert all(exchange["from"] == "host" and exchange["ms"] > 0 for exchange in exchanges)
        spd = scene.recorded("spd")
        assert {read["address"] for read in spd} == {
            device.address for _, device in board.devices() if device.driver_name == "spd"
        }
        await scene.press()
        await scene.state("off")
        assert scene.port.seen[-1].hex() == "18068583"
        assert scene.host.status()["ipmi"] == {"answered": len(requests) + 1, "unanswered": 0}

    play(script, board)


def test_a_boot_goes_on_without_a_bmc() -> None:
    async def script(scene: Scene) -> None:
        scene.host.set({"ipmi_pause": 0.001, "ipmi_tries": 4})
        await scene.host.mains(True)
        assert await scene.host.do("lose-power")
        await scene.host.do("restore-on")
        await scene.state("os", "login")
        given_up = [details["what"] for details in scene.recorded("given-up")]
        assert len(given_up) == len(scene.recorded("phase")) + 2 == 9
        assert len(scene.recorded("ipmi")) == 4 + 8  # after a message without answer one try for each
        await scene.power()
        assert scene.pins.asserted["PS_PWROK"]
        await scene.host.do("os-reboot")
        await scene.state("post")
        await scene.state("os", "login")
        assert len(scene.port.seen) == 9
        assert len(scene.recorded("given-up")) == 9

    play(script)


def test_a_message_is_sent_again() -> None:
    async def script(scene: Scene) -> None:
        scene.host.set({"ipmi_pause": 0.001})
        tries = 0

        def answer(request: bytes) -> bytes | None:
            nonlocal tries
            tries += 1
            match tries:
                case 1:
                    return None
                case 2:
                    return bytes([request[0] | 4, request[1], 0xC0])  # node busy
            return ok(request)

        scene.answer = answer
        await scene.host.mains(True)
        await scene.power()
        await scene.press()
        await scene.state("os", "login")
        assert [request.hex() for request in scene.port.seen[:4]] == ["1801", "1801", "1801", "18068282"]
        assert scene.recorded("given-up") == []

    play(script)


def test_power_lost_in_the_middle_of_a_message() -> None:
    async def script(scene: Scene) -> None:
        scene.host.set({"ipmi_pause": 0.001, "ipmi_tries": 100_000})
        scene.answer = lambda _: None
        await scene.host.mains(True)
        await scene.power()
        await scene.press()
        await scene.until(lambda: scene.port.seen)
        assert (await scene.host.do("lose-power"))["state"] == "dark"
        assert not scene.pins.asserted["PS_PWROK"]
        seen = len(scene.port.seen)
        assert set(scene.port.seen) == {b"\x18\x01"}
        scene.answer = ok
        await asyncio.sleep(0.1)  # as many tries, if there were any
        assert len(scene.port.seen) == seen
        assert await scene.host.ipmi(b"\x18\x01") == b"\x1c\x01\x00"

    play(script)


def test_an_answer_that_comes_too_late_is_none() -> None:
    async def script(scene: Scene) -> None:
        scene.host.set({"ipmi_pause": 0.001, "ipmi_tries": 100_000})
        scene.answer = lambda _: None
        await scene.host.mains(True)
        await scene.power()
        await scene.press()
        await scene.until(lambda: scene.port.seen)
        scene.host._put("answered", asyncio.create_task(asyncio.sleep(0)))  # to what was asked before
        await asyncio.sleep(0.1)
        assert set(scene.port.seen) == {b"\x18\x01"}

    play(script)


def test_the_host_outlives_the_bmcs_power_and_reset() -> None:
    async def script(scene: Scene) -> None:
        await scene.host.mains(True)
        await scene.power()
        await scene.press()
        await scene.state("os", "login")
        scene.pins.asserted.clear()
        scene.host.bmc_was_reset()
        await scene.until(lambda: scene.pins.asserted.get("PS_PWROK"))
        assert scene.pins.asserted["POST_COMPLETE"]
        await scene.host.disconnect()
        assert scene.host.status()["state"] == "os"
        with pytest.raises(KcsAbsent):
            await scene.host.ipmi(b"\x18\x01")
        await scene.power()
        assert scene.pins.asserted["PS_PWROK"]
        await scene.host.disconnect()
        await scene.host.mains(False)
        assert scene.host.status()["state"] == "dark"
        await scene.host.mains(True)
        await scene.host.mains(True)  # it is on already
        await scene.power()
        assert scene.host.status()["state"] == "off"
        assert not scene.pins.asserted["PS_PWROK"]
        on, off = {"power": True}, {"power": False}
        assert scene.recorded("bmc") == [on, {"reset": True}, off, on, off, on]

    play(script)


def test_a_button_is_pressed_and_released() -> None:
    async def script(scene: Scene) -> None:
        await scene.host.mains(True)
        await scene.power()
        scene.pins.history.clear()
        status = await scene.host.do("power-button", 0.05)
        assert scene.pins.history == [("POWER_BUTTON", True), ("POWER_BUTTON", False)]
        assert status["state"] == "off"  # passing it on is the BMC's business

    play(script)


@pytest.mark.parametrize(
    ("action", "seconds", "message"),
    [
        ("explode", None, "the host cannot do 'explode': it can do power-button, "),
        ("os-reboot", None, "the host is in state off: os-reboot does nothing there"),
        ("reset-button", None, "this board has no line RESET_BUTTON"),
        ("power-button", 61.0, "a press of 61 s is out of range"),
        ("power-button", 0.0, "a press of 0 s is out of range"),
    ],
)
def test_what_an_operator_cannot_do(action: str, seconds: float | None, message: str) -> None:
    async def script(scene: Scene) -> None:
        await scene.host.mains(True)
        with pytest.raises(QemuError, match=message):
            await scene.host.do(action, seconds)

    play(script, MINI)


def test_every_action_is_one_of_the_server_or_a_button() -> None:
    assert len(set(host.ACTIONS)) == len(host.ACTIONS) == 8
