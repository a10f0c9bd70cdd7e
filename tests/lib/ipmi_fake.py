# SPDX-License-Identifier: Apache-2.0
"""A BMC in memory for tests of IPMI commands."""

import asyncio

from fleet_ipmi import app, chassis, sensor_event, storage
from fleet_ipmi.dispatch import KCS, Channel, Dispatcher
from fleet_ipmi.outside import BmcError, Firmware, LogInfo, NoSuchRecordError, Power

AREAS = (app.command, chassis.command, sensor_event.command, storage.command)


class FakeBmc:
    """Does what `fleet_ipmi.outside.Bmc` says, remembers what it was asked, and fails on request."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []
        self.error: BmcError | None = None  # what every method raises that waits for somebody
        self.acpi = ("S0_G0_D0", "S0_G0_D0")
        self.state = Power("On", failed=False)
        self.cause = "PowerButton"
        self.stages: list[str] = []
        self.records: dict[int, bytes] = {}
        self.info = LogInfo(records=0, entries=0, capacity=4096, last_added=0, last_erased=0)
        self.clock = 1_790_000_000
        self._last = 0

    def _ask(self, *words: str) -> None:
        if self.error:
            raise self.error
        self.asked.append(words)

    def firmware(self) -> Firmware:
        return Firmware(1, 23, bytes.fromhex("01020304"))

    def time(self) -> int:
        return self.clock

    async def set_time(self, seconds: int) -> None:
        self._ask("time", str(seconds))

    async def acpi_state(self) -> tuple[str, str]:
        if self.error:
            raise self.error
        return self.acpi

    async def set_acpi_state(self, system: str, device: str, source: str) -> None:
        self._ask("acpi", system, device, source)

    async def power(self) -> Power:
        if self.error:
            raise self.error
        return self.state

    async def restart_cause(self) -> str:
        if self.error:
            raise self.error
        return self.cause

    async def request_host(self, transition: str) -> None:
        self._ask("host", transition)

    async def request_chassis(self, transition: str) -> None:
        self._ask("chassis", transition)

    def boot_progress(self, stage: str) -> None:
        self.stages.append(stage)

    async def log_info(self) -> LogInfo:
        if self.error:
            raise self.error
        return self.info

    async def sel_record(self, number: int) -> tuple[int, bytes]:
        number = self._number(number)
        return min((one for one in self.records if one > number), default=0xFFFF), self.records[number]

    async def add_sel_record(self, record: bytes) -> int:
        self._ask("add", record.hex())
        self._last += 1
        self.records[self._last] = self._last.to_bytes(2, "little") + record[2:]
        return self._last

    async def delete_sel_record(self, number: int) -> int:
        number = self._number(number)
        self._ask("delete", str(number))
        del self.records[number]
        return number

    async def clear_log(self) -> None:
        self._ask("clear")
        self.records.clear()

    def _number(self, number: int) -> int:
        if self.error:
            raise self.error
        number = {0: min(self.records, default=0), 0xFFFF: max(self.records, default=0)}.get(number, number)
        if number not in self.records:
            raise NoSuchRecordError(str(number))
        return number


class Host:
    """Asks a dispatcher with all commands. Requests are in hexadecimal: NetFn, command, data."""

    def __init__(self, bmc: FakeBmc) -> None:
        self.bmc = bmc
        self.dispatcher = Dispatcher(bmc, *AREAS)

    def ask(self, request: str, channel: Channel = KCS) -> str:
        """Return completion code and data of the response."""
        netfn, command, *data = bytes.fromhex(request)
        code, answer = asyncio.run(self.dispatcher.answer(channel, netfn, command, bytes(data)))
        return bytes((code, *answer)).hex(" ")
