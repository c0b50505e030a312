"""A headless Chromium, told what to do by the DevTools protocol over two pipes."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PATIENCE_SECONDS = 30.0


def program() -> str | None:
    """The path of a Chromium, or nothing."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


class Browser:
    """One tab of a Chromium."""

    def __init__(self, folder: Path) -> None:
        from_us, to_browser = os.pipe()
        from_browser, to_us = os.pipe()
        # Chromium reads its commands from descriptor 3, and answers on 4.
        command = (
            f"exec 3<&{from_us} 4>&{to_us}; exec {program()} --headless=new --no-sandbox "
            "--disable-gpu --no-first-run --disable-dev-shm-usage --hide-scrollbars "
            f"--remote-debugging-pipe --user-data-dir={folder / 'chromium'} about:blank"
        )
        with (folder / "chromium.txt").open("w") as output:
            self._process = subprocess.Popen(
                ["bash", "-c", command],
                pass_fds=(from_us, to_us),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        os.close(from_us)
        os.close(to_us)
        self._commands = os.fdopen(to_browser, "wb")
        self._answers = os.fdopen(from_browser, "rb", buffering=0)
        self._unread = b""
        self._number = 0
        self.errors: list[str] = []
        (target,) = [
            each for each in self._do("Target.getTargets")["targetInfos"] if each["type"] == "page"
        ]
        self._session = self._do(
            "Target.attachToTarget", targetId=target["targetId"], flatten=True
        )["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.do(f"{domain}.enable")

    def do(self, method: str, **parameters: Any) -> Any:
        """Send a command to the tab; its result."""
        return self._do(method, self._session, **parameters)

    def _do(self, method: str, session: str | None = None, **parameters: Any) -> Any:
        self._number += 1
        command = {"id": self._number, "method": method, "params": parameters}
        if session is not None:
            command["sessionId"] = session
        self._commands.write(json.dumps(command).encode() + b"\0")
        self._commands.flush()
        while True:
            message = self._message()
            if message.get("id") == self._number:
                assert "error" not in message, message
                return message["result"]
            self._overhear(message)

    def _message(self) -> Any:
        while b"\0" not in self._unread:
            read = self._answers.read(1 << 16)
            assert read, "Chromium has ended"
            self._unread += read
        message, self._unread = self._unread.split(b"\0", 1)
        return json.loads(message)

    def _overhear(self, message: Any) -> None:
        method, parameters = message.get("method"), message.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(parameters["exceptionDetails"])[:2000])
        if method == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.errors.append(parameters["entry"]["text"])

    def evaluate(self, expression: str) -> Any:
        """The value of an expression on the page."""
        found = self.do("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait(self, expression: str) -> Any:
        """The value of an expression as soon as it is true."""
        until = time.monotonic() + PATIENCE_SECONDS
        while not (value := self.evaluate(expression)):
            text = self.evaluate("document.body && document.body.innerText")
            assert time.monotonic() < until, f"{expression}\n{self.errors}\n{text}"
        return value

    def open(self, url: str) -> None:
        """Go to a page."""
        self.do("Page.navigate", url=url)

    def size(self, width: int, height: int, *, dark: bool = False) -> None:
        """Show the page in a window of this size."""
        self.do(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.do("Emulation.setEmulatedMedia", features=[scheme])

    def press(self, key: str) -> None:
        """Press a key, and let it go."""
        text = key if len(key) == 1 else ""
        self.do("Input.dispatchKeyEvent", type="keyDown", key=key, text=text)
        self.do("Input.dispatchKeyEvent", type="keyUp", key=key)

    def picture(self, path: Path) -> None:
        """Keep what is seen as a PNG file."""
        shot = self.do("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(shot["data"]))

    def close(self) -> None:
        """End it."""
        self._commands.close()
        self._answers.close()
        self._process.kill()
        self._process.wait()


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """A browser until the block ends."""
    found = Browser(folder)
    try:
        yield found
    finally:
        found.close()
