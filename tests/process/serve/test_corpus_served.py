"""Requests of tests/corpus over real servers: custody on, custody off, and uvicorn's own."""

import contextlib
import logging
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from ...corpus import application, client, entries, quiet, three

LIMIT = 60
ONE_OF = 8  # entries: all of them are sent in one process by tests/corpus/test_corpus.py


def expected(chosen):
    """Of those entries which have one: the answer that does not depend on what is read when, and then ends."""
    logging.disable(logging.CRITICAL)
    with quiet.quiet_loop() as loop, contextlib.ExitStack() as held:
        servers, found = three.Three(loop, held), {}
        for entry in chosen:
            pieces = [entry.data, entries.LAST]
            ways = [servers.outcomes(pieces), servers.outcomes([b"".join(pieces)])]
            wholes = {outcome.whole for outcomes in ways for outcome in outcomes}
            if len(wholes) == 1 and all(each.steps[-2][1] == "ended" for outcomes in ways for each in outcomes):
                found[entry] = wholes.pop()[0]
    logging.disable(logging.NOTSET)
    return found


def exchange(address, data):
    """Send this, and return what comes back until the server ends the connection."""
    out = b""
    with socket.create_connection(address, LIMIT) as sock, contextlib.suppress(ConnectionError):
        with contextlib.suppress(ConnectionError):
            sock.sendall(data)
        while some := sock.recv(65536):
            out += some
    return client.without_dates(out)


@contextlib.contextmanager
def uvicorn_alone(folder):
    """Its address, while ``python -m uvicorn`` serves the application."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        options = f"--fd {listener.fileno()} --http httptools --timeout-keep-alive 60 --lifespan off"
        options += " --log-level critical --no-access-log --no-server-header --no-proxy-headers"
        command = [sys.executable, "-m", "uvicorn", "application:app", *options.split()]
        process = subprocess.Popen(command, cwd=folder, pass_fds=[listener.fileno()])
        try:
            yield listener.getsockname()
        finally:
            process.terminate()
            process.wait(LIMIT)


def test_real_servers_answer_alike(serve, tmp_path):
    pytest.importorskip("httptools")
    text = Path(application.__file__).read_text()
    (tmp_path / "application.py").write_text(text)
    flags = ["--workers", "1", "--keep-alive", "60", "--lifespan", "off", "--log-level", "critical"]
    chosen = [entry for file in entries.FILES for entry in entries.read(file)][::ONE_OF]
    answers = expected(chosen)
    assert len(answers) > len(chosen) / 2
    with contextlib.ExitStack() as held:
        addresses = {"uvicorn": held.enter_context(uvicorn_alone(tmp_path))}
        for custody in ("on", "off"):
            server = serve("application:app", "--custody", custody, *flags, files={"application.py": text})
            addresses[f"custody {custody}"] = server.address
        for entry, answer in answers.items():
            for name, address in addresses.items():
                assert exchange(address, entry.data + entries.LAST) == answer, (name, entry.name)
