"""``fdpass demo live``: its connections, in the terminal and in a real browser, outlive the workers."""

import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

from ._chromium import Browser

DEMO = [sys.executable, "-m", "fdpass", "demo", "live"]
LIMIT = 60


@pytest.fixture
def demo():
    """``demo(*arguments)``: the running command, and the page's URL, which is its first line; ended afterwards."""
    started = []

    def start(*arguments):
        command = subprocess.Popen([*DEMO, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(command)
        first = command.stdout.readline()
        assert first.startswith("The page: http://127.0.0.1:"), (first, command.poll())
        return command, first.split()[-1]

    yield start
    for command in started:
        command.terminate()
        command.communicate(timeout=LIMIT)


def figures(output):
    """For each of the two connections: the last count, how often it was resumed, what was wrong, what broke."""
    pattern = r"^([\w ]+): counted to (\d+), resumed (\d+) times?, lost or twice: (\d+), broken: (\d+)$"
    return {name: tuple(map(int, found)) for name, *found in re.findall(pattern, output, re.MULTILINE)}


MOVED = r": worker \d+ goes on from \d+, in the place of worker \d+$"


def test_both_connections_count_on_while_workers_die(demo):
    command, _ = demo("--seconds", "100")
    awaited = ["WebSocket" + MOVED, "event stream" + MOVED, "kill -9 worker", "reload: generation 2 serves$"]
    while awaited:
        line = command.stdout.readline()
        assert line, "the demonstration has ended"
        awaited = [pattern for pattern in awaited if not re.search(pattern, line)]
    command.send_signal(signal.SIGINT)
    output, errors = command.communicate(timeout=LIMIT)
    assert (command.returncode, errors) == (0, ""), output
    assert re.search(r"^\d+ workers? killed with kill -9, \d reloads?$", output, re.MULTILINE), output
    told = figures(output)
    assert set(told) == {"WebSocket", "event stream"}, output
    for count, resumed, wrong, broken in told.values():
        assert count > 10
        assert resumed >= 1
        assert (wrong, broken) == (0, 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_demonstration_with_its_summary(demo, number):
    command, _ = demo()
    for line in command.stdout:
        if "kill -9" in line:
            break
    command.send_signal(number)
    output, errors = command.communicate(timeout=LIMIT)
    assert (command.returncode, errors) == (0, ""), output
    assert {told[2:] for told in figures(output).values()} == {(0, 0)}


def test_a_connection_that_breaks_is_told_and_fails_the_command(demo):
    """The dispatcher dies: nothing can save its connections."""
    command, _ = demo()
    with open(f"/proc/{command.pid}/task/{command.pid}/children") as children:
        (server,) = map(int, children.read().split())
    os.kill(server, signal.SIGKILL)
    output, _ = command.communicate(timeout=LIMIT)
    assert command.returncode == 1, output
    assert output.count(": the connection broke: ") == 2
    assert {told[3] for told in figures(output).values()} == {1}


def test_a_terminal_shows_a_picture():
    ours, terminal = pty.openpty()
    command = subprocess.Popen(
        [*DEMO, "--seconds", "2"],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
    )
    os.close(terminal)
    output = b""
    try:
        while select.select([ours], [], [], LIMIT)[0] and (part := os.read(ours, 65536)):
            output += part
    except OSError:  # EIO: the last holder of the terminal has closed it
        pass
    os.close(ours)
    assert command.wait(LIMIT) == 0
    for text in (b"The page: ", b"lost or twice", b"generation", b"Ctrl-C ends the demonstration", b"\x1b["):
        assert text in output
    assert set(figures(output.decode().replace("\r", ""))) == {"WebSocket", "event stream"}


def test_the_page_loads_nothing_from_elsewhere(demo):
    _, url = demo()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=LIMIT) as response:
        page = response.read().decode()
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert re.findall(r"""(?:src|href)=["']?([^"'> ]*)""", page) == ["data:,"]
    assert re.findall(r"\w+://[^\s`'\"]*", page) == ["ws://${location.host}/live/socket"]
    assert 'lang="en"' in page
    assert page.count("<p>") + page.count("<p ") == page.count("</p>")  # none has another one in it
    assert page.index("<li>Nothing yet.") > page.index('<ol id="moves"')  # the list is not empty at first


def field(card, name):
    return f"document.querySelector('#{card} [data-is={name}]').textContent"


def test_in_chromium_no_connection_is_opened_twice(demo, tmp_path):
    """Kills and a reload happen; both cards of the page count on, and no script has failed."""
    command, url = demo("--seconds", "60")
    browser = Browser(tmp_path)
    try:
        browser.open(url)
        for card in ("socket", "events"):
            browser.wait(f"{field(card, 'resumed')} >= 2 && {field(card, 'count')} > 10")
            assert browser.value(field(card, "state")) == "open"
        browser.wait("document.querySelectorAll('#moves li').length >= 4")
        assert "Nothing yet" not in browser.value("document.body.innerText")
        for card in ("socket", "events"):
            assert [browser.value(field(card, name)) for name in ("wrong", "reconnects")] == ["0", "0"]
            before = int(browser.value(field(card, "count")))
            browser.wait(f"{field(card, 'count')} > {before}")
        assert browser.errors == []
    finally:
        browser.close()
    command.send_signal(signal.SIGINT)
    output, errors = command.communicate(timeout=LIMIT)
    assert (command.returncode, errors) == (0, ""), output


NOTES = "[...document.querySelectorAll('#moves li')].map(line => line.textContent).reverse()"


def test_in_chromium_a_connection_that_the_browser_opens_anew_goes_on_in_the_place_of_no_worker(demo, tmp_path):
    """Another demonstration takes the place of the first, at the same address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
    first, url = demo("--port", port)
    browser = Browser(tmp_path)
    try:
        browser.open(url)
        for card in ("socket", "events"):
            browser.wait(f"{field(card, 'count')} > 0")
        first.send_signal(signal.SIGINT)
        first.communicate(timeout=LIMIT)
        for card in ("socket", "events"):
            browser.wait(f"{field(card, 'state')} == 'closed'")
        demo("--port", port)
        for card in ("socket", "events"):
            browser.wait(f"{field(card, 'reconnects')} == 1")
        browser.wait(f"{NOTES}.filter(note => note.includes('goes on')).length >= 1")
        notes = browser.value(f"{NOTES}.join('|')").split("|")
        for name in ("WebSocket", "Event stream"):
            told = [note.split(": ", 1)[1] for note in notes if name in note]
            ended = told.index("the connection has ended")
            assert told[ended + 1] == "the browser has connected again"
            old = set(re.findall(r"worker (\d+)", " ".join(told[:ended])))
            new = set(re.findall(r"worker (\d+)", " ".join(told[ended:])))
            assert not old & new
        assert {browser.value(field(card, "wrong")) for card in ("socket", "events")} == {"0"}
    finally:
        browser.close()


def test_in_chromium_the_page_says_when_the_demonstration_has_ended(demo, tmp_path):
    command, url = demo()
    browser = Browser(tmp_path)
    try:
        browser.open(url)
        browser.wait(f"{field('events', 'count')} > 0")
        command.send_signal(signal.SIGINT)
        command.communicate(timeout=LIMIT)
        for card in ("socket", "events"):
            browser.wait(f"{field(card, 'state')} == 'closed'")
            assert browser.value(field(card, "reconnects")) == "0"
    finally:
        browser.close()
