# SPDX-License-Identifier: Apache-2.0
"""The QMP client against a scripted far end."""

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from fleet_qemu.qmp import Qmp, QmpClosed, QmpError

Far = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def say(far: Far, message: dict[str, Any]) -> None:
    far[1].write(json.dumps(message).encode() + b"\n")


async def hear(far: Far) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(await far[0].readline())
    return message


def talk(script: Callable[[Qmp, Far, list[str]], Awaitable[None]]) -> None:
    """Connect a client to a far end that has said hello, and run `script(client, far end, events)`."""

    async def run() -> None:
        near, far_socket = socket.socketpair()
        far = await asyncio.open_unix_connection(sock=far_socket)
        say(far, {"QMP": {"version": {}, "capabilities": []}})
        events: list[str] = []
        connecting = asyncio.create_task(Qmp.connect(near, lambda name, _: events.append(name)))
        request = await hear(far)
        assert request["execute"] == "qmp_capabilities"
        say(far, {"return": {}, "id": request["id"]})
        qmp = await connecting
        try:
            async with asyncio.timeout(30):
                await script(qmp, far, events)
        finally:
            await qmp.close()
            far[1].close()

    asyncio.run(run())


def test_command_with_arguments() -> None:
    async def script(qmp: Qmp, far: Far, _: list[str]) -> None:
        call = asyncio.create_task(qmp.execute("qom-get", path="/machine", property="type"))
        request = await hear(far)
        assert request["execute"] == "qom-get"
        assert request["arguments"] == {"path": "/machine", "property": "type"}
        say(far, {"return": "ast2600-evb-machine", "id": request["id"]})
        assert await call == "ast2600-evb-machine"

    talk(script)


def test_answers_go_to_whoever_asked_and_events_to_the_listener() -> None:
    async def script(qmp: Qmp, far: Far, events: list[str]) -> None:
        first, second = (asyncio.create_task(qmp.execute(name)) for name in ("one", "two"))
        requests = [await hear(far), await hear(far)]
        say(far, {"event": "RESET", "data": {"guest": True}, "timestamp": {}})
        for request in reversed(requests):
            say(far, {"return": request["execute"].upper(), "id": request["id"]})
        assert (await first, await second) == ("ONE", "TWO")
        assert events == ["RESET"]

    talk(script)


def test_refusal_has_qemus_words() -> None:
    async def script(qmp: Qmp, far: Far, _: list[str]) -> None:
        call = asyncio.create_task(qmp.execute("nonsense"))
        request = await hear(far)
        error = {"class": "CommandNotFound", "desc": "The command nonsense has not been found"}
        say(far, {"error": error, "id": request["id"]})
        with pytest.raises(QmpError, match="nonsense has not been found"):
            await call

    talk(script)


def test_end_of_qemu_ends_waiting_and_later_calls() -> None:
    async def script(qmp: Qmp, far: Far, _: list[str]) -> None:
        call = asyncio.create_task(qmp.execute("stop"))
        await hear(far)
        far[1].close()
        with pytest.raises(QmpClosed):
            await call
        with pytest.raises(QmpClosed):
            await qmp.execute("cont")

    talk(script)


def test_end_before_hello() -> None:
    async def run() -> None:
        near, far = socket.socketpair()
        far.close()
        with pytest.raises(QmpClosed):
            await Qmp.connect(near, lambda *_: None)

    asyncio.run(run())
