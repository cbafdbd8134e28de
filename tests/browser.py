"""A real browser, driven by its own protocol (Chrome DevTools): open a page, press keys, read what is there."""

import asyncio
import contextlib
import re
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp

_BUILT = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")


class Browser:
    """One tab of a browser."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._number = 0

    async def ask(self, method: str, **parameters: object) -> dict[str, Any]:
        """One command of the protocol; its result."""
        self._number += 1
        await self._socket.send_json({"id": self._number, "method": method, "params": parameters})
        while True:
            answer = await self._socket.receive_json(timeout=30)
            if answer.get("id") == self._number:
                return answer["result"]

    async def read(self, expression: str) -> Any:
        """What this JavaScript is worth, run beside the page's own."""
        found = await self.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        return found["result"].get("value")

    async def open(self, url: str) -> None:
        """Open a page, and wait until it is there."""
        await self.ask("Page.enable")
        await self.ask("Page.navigate", url=url)
        await self.until(f"location.href === {url!r} && document.readyState === 'complete'")

    async def press(self, key: str) -> None:
        """One key, as from a keyboard."""
        await self.ask("Input.dispatchKeyEvent", type="keyDown", key=key, text=key)
        await self.ask("Input.dispatchKeyEvent", type="keyUp", key=key)

    async def enter(self) -> None:
        """The Enter key, which sends a form."""
        key = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13}
        await self.ask("Input.dispatchKeyEvent", type="keyDown", text="\r", **key)
        await self.ask("Input.dispatchKeyEvent", type="keyUp", **key)

    async def until(self, expression: str) -> None:
        """Wait until this is true; AssertionError if it is not within some seconds."""
        for _ in range(200):
            with contextlib.suppress(KeyError):  # the page is going away just now
                if await self.read(expression) is True:
                    return
            await asyncio.sleep(0.05)
        raise AssertionError(f"never true: {expression}; {await self.read('location.href')}")


def browsing(folder: Path, work: Callable[[Browser], Awaitable[None]]) -> None:
    """Do this in a fresh browser."""
    words = ["chromium", *_BUILT, "--no-proxy-server", "--remote-debugging-port=0", f"--user-data-dir={folder}"]
    with subprocess.Popen([*words, "about:blank"], stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            port = next(found[1] for line in process.stderr if (found := re.search(r"ws://127\.0\.0\.1:(\d+)/", line)))
            asyncio.run(_work(port, work))
        finally:
            process.kill()


async def _work(port: str, work: Callable[[Browser], Awaitable[None]]) -> None:
    async with aiohttp.ClientSession() as session:
        async with session.get(f"http://127.0.0.1:{port}/json") as tabs:
            url = next(tab["webSocketDebuggerUrl"] for tab in await tabs.json() if tab["type"] == "page")
        async with session.ws_connect(url, max_msg_size=0) as socket:
            await work(Browser(socket))
