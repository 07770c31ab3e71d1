"""Helpers for the tests of ``fdpass upgrade``: a source tree that can change, and clients that miss nothing."""

import contextlib
import os
import shutil
import threading
from pathlib import Path

import fdpass

from .conftest import LIMIT, descendants, state_of, wait_until

SOURCE = Path(fdpass.__file__).parent


class Tree:
    """A copy of fdpass's source.

    Attributes:
        folder: For PYTHONPATH.
    """

    def __init__(self, folder):
        self.folder = folder
        shutil.copytree(SOURCE, folder / "fdpass", ignore=shutil.ignore_patterns("__pycache__"))

    def be(self, version):
        """Let it be of this version."""
        self.change("__init__.py", f'__version__ = "{fdpass.__version__}"', f'__version__ = "{version}"')

    def change(self, name, before, after):
        """Start from the real file, and change it."""
        text = (SOURCE / name).read_text()
        assert before in text
        (self.folder / "fdpass" / name).write_text(text.replace(before, after))

    def mend(self, name):
        shutil.copy(SOURCE / name, self.folder / "fdpass" / name)


class Load:
    """Clients that keep their connection, and clients that open one for each request."""

    def __init__(self, server, client, kept=4, brief=2):
        self._over, self._server, self._client = threading.Event(), server, client
        self.failures, self.counts = [], []
        self._threads = [
            threading.Thread(target=self._run, args=(index >= kept,)) for index in range(kept + brief)
        ]

    def _run(self, brief):
        count = 0
        try:
            one = self._client(self._server)
            while not self._over.wait(0.005):  # the processors are for the server
                told = one.ask(token=str(count), method="POST", body=b"x" * 100).told()
                assert (told["token"], told["length"], told["attempt"]) == (str(count), 100, 0)
                count += 1
                if brief:
                    one.close()
                    one = self._client(self._server)
            one.close()
        except Exception as error:
            self.failures.append(repr(error))
        self.counts.append(count)

    def __enter__(self):
        assert self._server.address  # which the server is asked for once, while its dispatcher lives
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind, *_):
        self._over.set()
        for thread in self._threads:
            thread.join(LIMIT)
        if kind is None:
            assert self.failures == []
            assert min(self.counts) > 0


def descriptors(server):
    """How many descriptors the keeper has, and so the dispatcher."""
    return len(os.listdir(f"/proc/{server.pid}/fd"))


@contextlib.contextmanager
def nothing_left_over(server, client, templates):
    """Check that no connection, descriptor, or process is left over: of templates, so many stay."""
    with contextlib.closing(client(server)) as first:
        first.ask().told()
    server.wait_connections(live=0)
    before = descriptors(server)
    yield
    server.wait_connections(live=0, lost=0)
    wait_until(
        lambda: descriptors(server) <= before,
        f"{before} descriptors: ",
        lambda: [os.readlink(path) for path in Path(f"/proc/{server.pid}/fd").iterdir()],
    )
    expected = len(server.workers()) + 1 + templates
    wait_until(
        lambda: len(processes(server.pid)) == expected,
        f"{expected} processes: ",
        lambda: [(pid, state_of(pid)) for pid in processes(server.pid)],
    )


def processes(pid):
    """The children of a process, and theirs."""
    return [each for child in descendants(pid) for each in (child, *processes(child))]


def version_of(server):
    return server.status()["server"]["version"]


def dispatcher_of(server):
    return server.status()["server"]["dispatcher"]
