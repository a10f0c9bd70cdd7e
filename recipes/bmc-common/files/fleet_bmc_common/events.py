# SPDX-License-Identifier: Apache-2.0
"""Events for the BMC's event log (io.metafleet.EventLog)."""

from collections.abc import Mapping

from dbus_fast.aio.message_bus import MessageBus

from fleet_bmc_common.client import SECONDS, call

SERVICE = "xyz.openbmc_project.Logging"
_PATH = "/xyz/openbmc_project/logging"
_INTERFACE = "io.metafleet.EventLog"


async def append(
    bus: MessageBus,
    message: str,
    severity: str,
    data: Mapping[str, str],
    record: bytes = b"",
    *,
    seconds: float = SECONDS,
) -> None:
    """Put an event into the log; it is in flash when this returns. `record`: a SEL record, or empty.

    Raises as `client.call` does; a log that is not there is a DBusError, too.
    """
    values = (message, severity, dict(data), record)
    await call(bus, SERVICE, _PATH, _INTERFACE, "Append", "ssa{ss}ay", *values, seconds=seconds)
