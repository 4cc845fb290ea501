"""A headless Chromium for tests, driven over a pipe by its own debugging protocol."""

import base64
import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import pytest

_LONG = 120.0
Json = dict[str, object]
Theme = Literal["light", "dark"]


class Browser:
    """One tab. Commands are answered in order; events are passed over."""

    def __init__(self, reading: int, writing: int) -> None:
        self._incoming = os.fdopen(reading, "rb")
        self._outgoing = os.fdopen(writing, "wb")
        self._number = 0
        self._session = ""
        target = self._call("Target.createTarget", {"url": "about:blank"})
        attached = self._call(
            "Target.attachToTarget", {"targetId": target["targetId"], "flatten": True}
        )
        self._session = str(attached["sessionId"])

    def resize(self, width: int, height: int, *, theme: Theme = "light") -> None:
        """Be a screen of this many CSS pixels; a phone's has twice the dots."""
        is_phone = width < 600
        metrics: Json = {
            "width": width,
            "height": height,
            "deviceScaleFactor": 2 if is_phone else 1,
            "mobile": is_phone,
        }
        self._call("Emulation.setDeviceMetricsOverride", metrics)
        features = [{"name": "prefers-color-scheme", "value": theme}]
        self._call("Emulation.setEmulatedMedia", {"features": features})

    def allow_scripts(self, *, allowed: bool) -> None:
        """Run the scripts of pages that are opened from now on, or not."""
        self._call("Emulation.setScriptExecutionDisabled", {"value": not allowed})

    def open(self, url: str) -> None:
        """Load a page; returns when its document and styles are there."""
        self._call("Page.navigate", {"url": url})
        self.wait_for(f"document.readyState === 'complete' && location.href === {json.dumps(url)}")

    def evaluate(self, expression: str) -> object:
        """The value of a JavaScript expression on the page."""
        answer = self._call("Runtime.evaluate", {"expression": expression, "returnByValue": True})
        result = answer["result"]
        assert isinstance(result, dict)
        assert "exceptionDetails" not in answer, result
        return result.get("value")

    def wait_for(self, expression: str) -> None:
        """Return when an expression is true on the page."""
        give_up_at = time.monotonic() + _LONG
        while self.evaluate(expression) is not True:
            assert time.monotonic() < give_up_at, f"never true: {expression}"
            threading.Event().wait(0.05)

    def screenshot(self, path: Path, *, whole: bool = True) -> None:
        """Write what is seen as PNG; the whole page, or the screen only."""
        answer = self._call(
            "Page.captureScreenshot", {"captureBeyondViewport": whole, **self._clip(whole)}
        )
        path.write_bytes(base64.b64decode(str(answer["data"])))

    def overflowing(self) -> object:
        """Elements that reach beyond the screen's right edge, or scroll within themselves."""
        return self.evaluate(
            "[...document.querySelectorAll('body *')]"
            ".filter(e => e.getClientRects().length)"
            ".filter(e => getComputedStyle(e).position !== 'absolute')"
            ".filter(e => e.getBoundingClientRect().right > innerWidth + 1"
            " || (e.scrollWidth > e.clientWidth + 1 && e.clientWidth"
            " && getComputedStyle(e).display !== 'inline'))"
            ".map(e => e.outerHTML.slice(0, 120))"
        )

    def _clip(self, whole: bool) -> Json:  # noqa: FBT001
        if not whole:
            return {}
        size = self.evaluate("[document.documentElement.clientWidth, document.body.scrollHeight]")
        assert isinstance(size, list)
        return {"clip": {"x": 0, "y": 0, "width": size[0], "height": size[1], "scale": 1}}

    def _call(self, method: str, parameters: Json) -> Json:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._outgoing.write(json.dumps(message).encode() + b"\0")
        self._outgoing.flush()
        while True:
            answer = json.loads(self._read())
            if answer.get("id") == self._number:
                assert "error" not in answer, answer["error"]
                result: Json = answer["result"]
                return result

    def _read(self) -> bytes:
        content = bytearray()
        while (byte := self._incoming.read(1)) != b"\0":
            assert byte, "the browser has ended"
            content += byte
        return bytes(content)


@contextmanager
def open_browser(directory: Path) -> Iterator[Browser]:
    """A browser with an empty profile; skips the test where there is none."""
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("needs the system package chromium")
    their_reading, our_writing = os.pipe()
    our_reading, their_writing = os.pipe()
    with (directory / "chromium.log").open("wb") as log:
        child = subprocess.Popen(
            [
                "/bin/bash",
                "-c",
                # The protocol is spoken on descriptors 3 and 4, whatever numbers we got.
                f'exec "$0" "$@" 3<&{their_reading} 4>&{their_writing}',
                program,
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
                "--disable-background-networking",
                "--no-proxy-server",
                "--hide-scrollbars",
                f"--user-data-dir={directory / 'profile'}",
                "--remote-debugging-pipe",
            ],
            pass_fds=(their_reading, their_writing),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    os.close(their_reading)
    os.close(their_writing)
    try:
        yield Browser(our_reading, our_writing)
    finally:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
