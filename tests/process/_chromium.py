"""A real browser: Chromium without a window, led over a pipe by the DevTools protocol."""

import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import time

import pytest

LIMIT = 60
NAMES = ("chromium", "chromium-browser", "google-chrome")
START = """
import fcntl, os, sys
pipes = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 10) for number in sys.argv[1:3]]
for number, pipe in enumerate(pipes, 3):
    os.dup2(pipe, number)
os.execvp(sys.argv[3], sys.argv[3:])
"""
"""Starts Chromium, which reads commands from descriptor 3 and writes to 4."""
FLAGS = [
    "--no-sandbox",  # root has none, and the test loads nothing from outside
    "--disable-dev-shm-usage",  # /dev/shm is small in a container
    "--disable-gpu",
    "--no-proxy-server",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
]


class Browser:
    """Chromium with one page.

    Args:
        folder: For its profile.
    """

    def __init__(self, folder):
        program = next(filter(None, map(shutil.which, NAMES)), None)
        if program is None:
            pytest.skip("no browser: Chromium is not installed")
        theirs, self._to = os.pipe()
        self._from, theirs_out = os.pipe()
        command = [program, "--headless=new", "--remote-debugging-pipe", f"--user-data-dir={folder}/profile"]
        self._log = open(f"{folder}/chromium.log", "wb")
        self.process = subprocess.Popen(
            [sys.executable, "-c", START, str(theirs), str(theirs_out), *command, *FLAGS, "about:blank"],
            pass_fds=(theirs, theirs_out),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )
        os.close(theirs)
        os.close(theirs_out)
        self._held, self._number, self._session = b"", 0, None
        self.errors = []
        targets = self.call("Target.getTargets")["targetInfos"]
        target = next(each["targetId"] for each in targets if each["type"] == "page")
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.call("Runtime.enable")
        self.call("Log.enable")

    def call(self, method, **parameters):
        """One call of the protocol; returns its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            if answer.get("method") in {"Runtime.exceptionThrown", "Log.entryAdded"}:
                self.errors.append(answer["params"])

    def _next(self):
        while b"\0" not in self._held:
            assert select.select([self._from], [], [], LIMIT)[0], "Chromium is silent"
            data = os.read(self._from, 1 << 16)
            assert data, "Chromium has ended"
            self._held += data
        message, self._held = self._held.split(b"\0", 1)
        return json.loads(message)

    def open(self, url):
        """Load a page."""
        self.call("Page.navigate", url=url)

    def value(self, expression):
        """The value of an expression of JavaScript in the page."""
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def wait(self, expression, limit=LIMIT):
        """Wait until an expression is true."""
        end = time.monotonic() + limit
        while not self.value(expression):
            assert time.monotonic() < end, (
                f"not within {limit} s: {expression}: {self.value('document.body.innerText')}"
            )
            time.sleep(0.1)

    def close(self):
        """End the browser and its processes."""
        try:
            with contextlib.suppress(OSError):
                self._session = None
                os.write(self._to, json.dumps({"id": 0, "method": "Browser.close"}).encode() + b"\0")
            self.process.wait(LIMIT)
        finally:
            self.process.kill()
            self.process.wait()
            self._log.close()
            os.close(self._to)
            os.close(self._from)
