# SPDX-License-Identifier: Apache-2.0
"""The server's end of ipmitool's interface `dummy`: a unix socket, for tests on the build host.

Client and server send C structures as their compiler lays them out, and behind each as many bytes of data as
it says. A client that says anything else is cut off.
"""

import asyncio
import struct

from fleet_ipmi.dispatch import Channel, Dispatcher, Privilege

# NetFn, LUN, command, target's command, length of the data, a pointer (which means nothing here)
REQUEST = struct.Struct("@BBBBHP")
# NetFn, command, sequence number, LUN, completion code, length of the data, a pointer
RESPONSE = struct.Struct("@BBBBBiP")

# As an operator over the network would be.
CHANNEL = Channel(1, 0x04, 0x01, Privilege.ADMIN, in_band=False)

_GOODBYE = (0x3F, 0xFF)
_MOST_DATA = 1000  # as KCS


async def serve(path: str, dispatcher: Dispatcher) -> None:
    """Serve at `path` until cancelled."""

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await _talk(reader, writer, dispatcher)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # it has gone
        finally:
            writer.close()

    server = await asyncio.start_unix_server(client, path)
    async with server:
        await server.serve_forever()


async def _talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, dispatcher: Dispatcher) -> None:
    """Answer the requests of a client until it says goodbye or nonsense."""
    while True:
        netfn, lun, command, _, length, _ = REQUEST.unpack(await reader.readexactly(REQUEST.size))
        if (netfn, command) == _GOODBYE:
            return
        if netfn > 0x3F or netfn & 1 or lun > 3 or length > _MOST_DATA:
            dispatcher.refuse()
            return
        code, data = await dispatcher.answer(CHANNEL, netfn, command, await reader.readexactly(length))
        writer.write(RESPONSE.pack(netfn + 1, command, 0, lun, code, len(data), 0) + data)
        await writer.drain()
