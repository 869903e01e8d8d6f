"""A headless Chromium, driven over its debugging pipe: JSON messages that end with NUL."""

from __future__ import annotations

import base64
import itertools
import json
import os
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium")
OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-debugging-pipe",
)  # fmt: skip


class Browser:
    """One page."""

    def __init__(self, folder: Path, url: str, *options: str) -> None:
        assert CHROMIUM is not None
        their_in, our_out = os.pipe()
        our_in, their_out = os.pipe()
        command = shlex.join([CHROMIUM, *OPTIONS, *options, f"--user-data-dir={folder}"])
        self._process = subprocess.Popen(
            ["bash", "-c", f"exec {command} 3<&{their_in} 4>&{their_out}"],
            pass_fds=(their_in, their_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(their_in)
        os.close(their_out)
        self._in, self._out = os.fdopen(our_in, "rb"), os.fdopen(our_out, "wb", buffering=0)
        self._ids = itertools.count(1)
        self._buffer = b""
        self._session: str | None = None
        target = self._ask("Target.createTarget", {"url": "about:blank"})["targetId"]
        self._session = self._ask("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        self._ask("Page.enable", {})
        self._ask("Page.navigate", {"url": url})
        while self._next().get("method") != "Page.loadEventFired":
            pass

    def wait_for(self, text: str) -> bool:
        """Returns when the page shows the text: told by the page itself, at the change that brings it."""
        look = f"document.body.innerText.includes({json.dumps(text)})"
        observer = f"new MutationObserver(() => {look} && resolve(true)).observe(document.body, everything)"
        everything = "const everything = {subtree: true, childList: true, characterData: true};"
        script = f"new Promise(resolve => {{ {everything} {observer}; {look} && resolve(true) }})"
        answer = self._ask("Runtime.evaluate", {"expression": script, "awaitPromise": True})
        return bool(answer["result"]["value"])

    def choose(self, selector: str, *files: Path) -> None:
        """Chooses files in an `<input type=file>`."""
        document = self._ask("DOM.getDocument", {})["root"]["nodeId"]
        node = self._ask("DOM.querySelector", {"nodeId": document, "selector": selector})["nodeId"]
        self._ask("DOM.setFileInputFiles", {"nodeId": node, "files": [str(file) for file in files]})

    def click(self, selector: str) -> None:
        self._ask("Runtime.evaluate", {"expression": f"document.querySelector({json.dumps(selector)}).click()"})

    def text(self) -> str:
        """All that the page shows."""
        answer = self._ask("Runtime.evaluate", {"expression": "document.body.innerText"})
        return str(answer["result"]["value"])

    def evaluate(self, script: str) -> Any:
        """The value of a JavaScript expression, or that of its promise."""
        answer = self._ask("Runtime.evaluate", {"expression": script, "awaitPromise": True})
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def screenshot(self) -> bytes:
        """The page as PNG."""
        return base64.b64decode(self._ask("Page.captureScreenshot", {})["data"])

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._in.close()
        self._out.close()

    def _ask(self, method: str, params: dict[str, Any]) -> Any:
        number = next(self._ids)
        message = {"id": number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        self._out.write(json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != number:
            pass
        assert "error" not in answer, answer
        return answer["result"]

    def _next(self) -> Any:
        while b"\0" not in self._buffer:
            data = self._in.read1(65536)
            assert data, "the browser has ended"
            self._buffer += data
        first, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(first)
