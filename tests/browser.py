"""A headless Chromium, spoken to through its debugging protocol: what a page draws, asks for, and what axe finds."""

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

AXE = Path(__file__).parent / "data" / "axe-core" / "axe.min.js"
KEYS = {" ": 32, "Enter": 13, "Tab": 9, "ArrowUp": 38, "ArrowDown": 40, "ArrowRight": 39, "End": 35}
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
NEEDS_BROWSER = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")


def serious(found: dict[str, list[dict]]) -> list[str]:
    """What axe-core found serious or critical: rule, element, why."""
    return [
        f"{one['id']} ({one['impact']}): {node['html'][:160]} {node['failureSummary']}"
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]


class Page:
    """One page of a browser without a network. `problems` are its complaints.

    localhost: leave the way to this machine open; Chromium's own offline switch closes that one, too.
    """

    def __init__(self, address: str, localhost: bool = False):
        self.socket = websocket.create_connection(address, timeout=60)
        self.numbers, self.asked, self.problems = itertools.count(), {}, []
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        self.call("Emulation.setFocusEmulationEnabled", enabled=True)  # else no control gets the keyboard
        self.call("Network.emulateNetworkConditions", offline=not localhost, latency=0, downloadThroughput=-1,
                  uploadThroughput=-1)  # fmt: skip

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
            elif message.get("method") == "Network.webSocketCreated":
                self.asked[message["params"]["requestId"]] = message["params"]["url"]
            elif message.get("method") == "Runtime.exceptionThrown":
                details = message["params"]["exceptionDetails"]
                self.problems.append(details.get("exception", {}).get("description") or details["text"])
            elif message.get("method") == "Runtime.consoleAPICalled" and message["params"]["type"] == "error":
                said = [str(one.get("value", one.get("description"))) for one in message["params"]["args"]]
                self.problems.append(" ".join(said))
            elif message.get("method") == "Log.entryAdded" and message["params"]["entry"]["level"] == "error":
                self.problems.append(message["params"]["entry"]["text"])

    @property
    def requests(self) -> list[str]:
        """The addresses that the page asked the network for."""
        return [url for url in self.asked.values() if not url.startswith(("data:", "blob:"))]

    def run(self, code: str):
        """The value of a piece of JavaScript, awaited where it is a promise."""
        answer = self.call("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True)
        return answer["result"].get("value")

    def open(self, where: Path | str, ready: str = "document.readyState === 'complete'") -> None:
        """Open a file or an address and wait until this JavaScript is true."""
        self.asked.clear()
        self.problems.clear()
        self.call("Page.navigate", url=where if isinstance(where, str) else where.absolute().as_uri())
        self.wait(f"document.readyState === 'complete' && ({ready})")

    def wait(self, ready: str, seconds: float = 120) -> None:
        """Wait until this JavaScript is true."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.run(ready):
                return
            time.sleep(0.1)
        pytest.fail(f"{ready} was never true: {self.problems}")

    def press(self, *keys: str) -> None:
        """Press keys one after the other: names as in KEYS, or characters to type."""
        for key in keys:
            more = {"windowsVirtualKeyCode": KEYS[key]} if key in KEYS else {}
            text = {"Enter": "\r", " ": " "}.get(key, key if len(key) == 1 else "")
            down = {"type": "keyDown", "text": text} if text else {"type": "rawKeyDown"}
            self.call("Input.dispatchKeyEvent", key=key, code=key, **down, **more)
            self.call("Input.dispatchKeyEvent", key=key, code=key, type="keyUp", **more)

    def axe(self, inside: str) -> dict[str, list[dict]]:
        """What axe-core finds in the elements that this selector names: its `violations`, `incomplete`, `passes`."""
        if not self.run("typeof axe === 'object'"):
            self.run(AXE.read_text())
        found = self.run(f"axe.run({{include: [[{json.dumps(inside)}]]}})")
        assert found["passes"], "axe did not run"
        return found

    def screenshot(self, path: Path, width: int = 1000, height: int = 1400) -> None:
        """A PNG of the whole page in a window of this size."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        time.sleep(0.7)  # for figures to follow the new width
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]))


@contextlib.contextmanager
def browser(folder: Path, localhost: bool = False):
    """A Page; the browser keeps its profile in `folder`. localhost: it may ask this machine, and nothing else."""
    words = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu"]
    words += [
        "--remote-debugging-port=0",
        "--remote-allow-origins=*",
        f"--user-data-dir={folder}",
        "--window-size=1000,1400",
    ]
    if localhost:
        words += ["--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1", "--disable-background-networking"]
    words.append("about:blank")
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        port = folder / "DevToolsActivePort"
        for _ in range(600):
            if port.exists() and port.read_text().strip():
                break
            time.sleep(0.1)
        with urllib.request.urlopen(f"http://127.0.0.1:{port.read_text().split()[0]}/json/list", timeout=30) as answer:
            target = next(one for one in json.load(answer) if one["type"] == "page")
        page = Page(target["webSocketDebuggerUrl"], localhost)
        yield page
        page.socket.close()
    finally:
        process.kill()
        process.wait()
