"""A page in headless Chromium, driven over its debugging protocol: no package beyond tornado, which Bokeh needs."""

import asyncio
import base64
import itertools
import json
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Page:
    """A tab: what it has requested and printed, and what is done with it."""

    def __init__(self, url: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._socket: Any = self._loop.run_until_complete(_connected(url))
        self._ids = itertools.count(1)
        self.requests: list[str] = []
        self.errors: list[str] = []
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._ids)
        self._loop.run_until_complete(self._send(json.dumps({"id": number, "method": method, "params": parameters})))
        while True:
            found = json.loads(self._loop.run_until_complete(self._receive()))
            if found.get("id") == number:
                assert "error" not in found, found
                return found["result"]
            if "method" in found:
                self._note(found["method"], found["params"])

    async def _send(self, text: str) -> None:
        await self._socket.write_message(text)

    async def _receive(self) -> str:
        return await asyncio.wait_for(self._socket.read_message(), 120)

    def _note(self, method: str, event: dict[str, Any]) -> None:
        if method == "Network.requestWillBeSent":
            self.requests.append(event["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.errors.append(str(event["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and event["type"] in ("error", "warning", "assert"):
            self.errors.append(str([one.get("value", one.get("description")) for one in event["args"]]))
        elif method == "Log.entryAdded" and event["entry"]["level"] in ("error", "warning"):
            self.errors.append(event["entry"]["text"])

    def js(self, code: str) -> Any:
        """Return the value of an expression, or of a promise."""
        found = self.call("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def open(self, file: Path, *, width: int = 1200, height: int = 900, dark: bool = False) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.navigate", url="about:blank")
        self.wait("location.href === 'about:blank'")  # a page that just writes its address can delay this
        self.requests.clear()
        self.call("Page.navigate", url=file.resolve().as_uri())
        ready = "document.documentElement?.dataset.ready === 'yes'"  # a page without charts has no slider
        self.wait(f"document.readyState === 'complete' && (!document.getElementById('step') || {ready})")
        self.frame()

    def wait(self, condition: str, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not self.js(condition):
            assert time.monotonic() < end, (condition, self.errors)
            time.sleep(0.05)

    def frame(self) -> None:
        """Wait until what has changed is drawn."""
        self.js("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 50))))")

    def point(self, x: float, y: float) -> None:
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        self.frame()

    def screenshot(self, path: Path, *, whole: bool = True) -> None:
        found = self.call(
            "Page.captureScreenshot", captureBeyondViewport=whole, **({"clip": self._clip()} if whole else {})
        )
        path.write_bytes(base64.b64decode(found["data"]))

    def _clip(self) -> dict[str, float]:
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        return {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}

    def close(self) -> None:
        self._loop.run_until_complete(self._closed())
        self._loop.close()

    async def _closed(self) -> None:
        self._socket.close()
        while await self._socket.read_message() is not None:
            pass


async def _connected(url: str) -> Any:
    from tornado.websocket import websocket_connect

    return await websocket_connect(url, max_message_size=1 << 28)


@contextmanager
def browser() -> Iterator[Page]:
    """Start Chromium, and give its first tab."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
        quiet = ["--disable-background-networking", "--disable-component-update", "--disable-extensions"]
        command = [str(CHROMIUM), *options, *quiet, f"--remote-debugging-port={port}", f"--user-data-dir={profile}"]
        process = subprocess.Popen([*command, "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            page = Page(_tab(port))
            try:
                yield page
            finally:
                page.close()
        finally:
            process.terminate()
            process.wait(20)


def _tab(port: int) -> str:
    end = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=10) as answer:
                return next(tab["webSocketDebuggerUrl"] for tab in json.load(answer) if tab["type"] == "page")
        except (OSError, StopIteration):
            assert time.monotonic() < end, "Chromium does not answer"
            time.sleep(0.2)
