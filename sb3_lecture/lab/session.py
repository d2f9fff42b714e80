"""One browser tab: its page, its messages, and its clock while it plays. Tabs share nothing; closing one ends its page."""

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from sb3_lecture.lab.messages import Message, read_message
from sb3_lecture.lab.page import FRAMES_PER_SECOND, Page, Refused, encode

#: messages that are none, after which the tab is cut off
PATIENCE = 100
POLICY_VIOLATION = 1008


class Session:
    """One open page.

    :param socket: accepted
    :param make_page: makes the page, in a thread: it may import what takes seconds
    """

    def __init__(self, socket: WebSocket, make_page: Callable[[], Page]) -> None:
        self.socket, self._make_page = socket, make_page
        self._turn = asyncio.Lock()  # the page does one thing at a time
        self._drawn = asyncio.Event()  # the browser has drawn the last frame
        self._drawn.set()
        self._frames = itertools.count(1)
        self._frame = 0

    async def serve(self) -> None:
        """Answer until the tab closes."""
        self.page = await asyncio.to_thread(self._make_page)
        hello = {"controls": [control.describe() for control in self.page.controls], "info": self.page.info()}
        await self._send({"hello": hello, "state": await asyncio.to_thread(self.page.state)})
        player = asyncio.create_task(self._play())
        try:
            await self._listen()
        except WebSocketDisconnect:
            pass
        finally:
            self.page.playing = False
            player.cancel()

    async def _listen(self) -> None:
        refused = 0
        while refused < PATIENCE:
            received = await self.socket.receive()
            if received["type"] == "websocket.disconnect":
                return
            try:
                await self._answer(read_message(received.get("text")))
            except Refused as error:
                refused += 1
                await self._send({"error": str(error)})
        await self.socket.close(POLICY_VIOLATION, "too many messages that the lab does not take")

    async def _answer(self, message: Message) -> None:
        if message.ack is not None:
            if message.ack == self._frame:
                self._drawn.set()
            return
        async with self._turn:
            reply: dict[str, Any] = {"id": message.id}
            try:
                reply["state"] = await asyncio.to_thread(self._do, message)
            except Refused as error:
                reply["error"] = str(error)
                reply["state"] = await asyncio.to_thread(self.page.state)
        await self._send(reply)

    def _do(self, message: Message) -> dict[str, Any]:
        if message.changes is not None:
            self.page.set(message.changes)
        else:
            self.page.do(str(message.action))
        return self.page.state()

    async def _play(self) -> None:
        """While the page plays: one tick a frame, no frame before the last one was drawn."""
        clock = asyncio.get_running_loop().time
        due = clock()
        while True:
            due = max(due + 1 / FRAMES_PER_SECOND, clock())  # what a frame takes is part of its time; what is late stays late
            await asyncio.sleep(due - clock())
            if not self.page.playing:
                continue
            await self._drawn.wait()
            async with self._turn:
                state = await asyncio.to_thread(self._tick) if self.page.playing else None
            if state is not None:
                self._frame = next(self._frames)
                self._drawn.clear()
                await self._send({"frame": self._frame, "state": state})

    def _tick(self) -> dict[str, Any] | None:
        return self.page.state() if self.page.tick() else None

    async def _send(self, message: dict[str, Any]) -> None:
        await self.socket.send_text(encode(message))
