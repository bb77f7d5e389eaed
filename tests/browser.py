"""A headless Chromium, spoken to through its debugging protocol: what a page draws, and what it asks for."""

import base64
import contextlib
import itertools
import json
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest
import websocket

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
NEEDS_BROWSER = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")


class Page:
    """One page of a browser without a network. `problems` are its complaints."""

    def __init__(self, address: str):
        self.socket = websocket.create_connection(address, timeout=60)
        self.numbers, self.asked, self.problems = itertools.count(), {}, []
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        self.call("Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=0, uploadThroughput=0)

    def call(self, method: str, **parameters) -> dict:
        number = next(self.numbers)
        self.socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self.socket.recv())
            if message.get("id") == number:
                return message["result"]
            if message.get("method") == "Network.requestWillBeSent":
                self.asked[message["params"]["requestId"]] = message["params"]["request"]["url"]
            elif message.get("method") == "Network.loadingFailed" and message["params"].get("blockedReason"):
                self.asked.pop(message["params"]["requestId"], None)  # the page's own policy held it back
            elif message.get("method") == "Runtime.exceptionThrown":
                self.problems.append(message["params"]["exceptionDetails"]["text"])
            elif message.get("method") == "Log.entryAdded" and message["params"]["entry"]["level"] == "error":
                self.problems.append(message["params"]["entry"]["text"])

    @property
    def requests(self) -> list[str]:
        """The addresses that the page asked the network for."""
        return [url for url in self.asked.values() if not url.startswith(("data:", "blob:"))]

    def run(self, code: str):
        """The value of a piece of JavaScript."""
        return self.call("Runtime.evaluate", expression=code, returnByValue=True)["result"].get("value")

    def open(self, path: Path, ready: str = "document.readyState === 'complete'") -> None:
        """Open a file and wait until this JavaScript is true."""
        self.asked.clear()
        self.problems.clear()
        self.call("Page.navigate", url=path.absolute().as_uri())
        for _ in range(300):
            if self.run(f"document.readyState === 'complete' && ({ready})"):
                return
            time.sleep(0.1)
        pytest.fail(f"{path.name} was never ready: {self.problems}")

    def screenshot(self, path: Path) -> None:
        """A PNG of the whole page."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]))


@contextlib.contextmanager
def browser(folder: Path):
    """A Page; the browser keeps its profile in `folder`."""
    words = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0"]
    words += ["--remote-allow-origins=*", f"--user-data-dir={folder}", "--window-size=1000,1400", "about:blank"]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        port = folder / "DevToolsActivePort"
        for _ in range(600):
            if port.exists() and port.read_text().strip():
                break
            time.sleep(0.1)
        with urllib.request.urlopen(f"http://127.0.0.1:{port.read_text().split()[0]}/json/list", timeout=30) as answer:
            target = next(one for one in json.load(answer) if one["type"] == "page")
        page = Page(target["webSocketDebuggerUrl"])
        yield page
        page.socket.close()
    finally:
        process.kill()
        process.wait()
