"""A running ``fdpass dashboard``, for tests: started as a user starts it, on a free port."""

import http.client
import json
import re
import subprocess
import sys
import urllib.parse

LIMIT = 60


class Dashboard:
    """The command, and requests to it.

    Attributes:
        process: The command.
        url: What it has printed.
        address: Host and port of the page.
        token: The token in the URL; empty if there is none.
    """

    def __init__(self, *arguments, env=None):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fdpass", "dashboard", "--bind", "127.0.0.1:0", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=env,
        )
        line = self.process.stdout.readline()
        assert line.startswith("The dashboard: http://"), (line, self.process.poll(), self.process.stderr.read())
        self.url = line.split()[-1]
        parts = urllib.parse.urlsplit(self.url)
        self.address = parts.hostname, parts.port
        self.token = parts.fragment.removeprefix("token=")

    def request(self, method, path, body=None, **headers):
        """Status and body of a request."""
        return request(self.address, method, path, body, **headers)

    def get(self, path):
        """Status and body of a GET."""
        return self.request("GET", path)

    def act(self, verb, token=None, **body):
        """Status and reply of an action."""
        headers = {"authorization": f"Bearer {token or self.token}", "content-type": "application/json"}
        status, reply = self.request("POST", f"/actions/{verb}", json.dumps(body), **headers)
        return status, json.loads(reply)

    def state(self, name=""):
        """The state of a server; of the first without a name."""
        servers = json.loads(self.get("/status.json")[1])["servers"]
        return next(server["state"] for server in servers if name in {"", server["name"]})

    def metrics(self):
        """All samples of ``/metrics``, by name and labels as they are written."""
        status, body = self.get("/metrics")
        assert status == 200
        lines = re.findall(r"^(\w[^ #]*(?:\{.*\})?) (\S+)$", body, re.MULTILINE)
        return {name: float(value) for name, value in lines}

    def close(self):
        """End it; returns its exit code."""
        self.process.terminate()
        try:
            self.process.communicate(timeout=LIMIT)
        finally:
            self.process.kill()
            self.process.communicate()
        return self.process.returncode


def request(address, method, path, body=None, **headers):
    """Status and body of a request over a connection of its own."""
    connection = http.client.HTTPConnection(*address, timeout=LIMIT)
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()
