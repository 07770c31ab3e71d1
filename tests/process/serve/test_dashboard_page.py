"""The dashboard's page in a real browser: figures move, a death appears, buttons act, everybody can read it."""

import contextlib
import os
import signal
import threading
from pathlib import Path

import pytest

from .._chromium import Browser

CHECKS = (Path(__file__).parent / "_page_checks.js").read_text()
"""Defines ``lowContrast()`` and ``nameless()``."""


@pytest.fixture
def browser(tmp_path):
    """Chromium, at the size of a desk's screen."""
    found = Browser(tmp_path)
    try:
        yield found
    finally:
        found.close()


@contextlib.contextmanager
def load(client, server):
    """Requests one after another, over one connection, until the end; a death of its worker does not end it."""
    over = threading.Event()
    one = client(server)

    def run():
        while not over.is_set():
            one.ask().told()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def screen(browser, width, height, scheme="light"):
    """Set the size of the screen, and what the system prefers."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.call("Emulation.setDeviceMetricsOverride", **size)
    browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])


def press(browser, key, code, text=""):
    """Press and release a key."""
    for kind in ("keyDown" if text else "rawKeyDown", "keyUp"):
        browser.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, text=text, windowsVirtualKeyCode=code)


def text(identifier):
    return f"document.getElementById('{identifier}').innerText"


READY = "document.querySelectorAll('#workers .good').length"
FIGURE = "parseFloat(document.querySelector('#requests .figure').textContent.replace(',', ''))"


def test_figures_move_a_death_appears_and_buttons_act(kept, client, dashboard, browser):
    server = kept("--workers", "2")
    shown = dashboard(server, "--allow-actions")
    browser.open(shown.url)
    browser.wait(f"{text('state')} == 'serving'")
    assert browser.value("location.href") == f"http://127.0.0.1:{shown.address[1]}/"  # the token is not shown
    with load(client, server):
        browser.wait(f"{FIGURE} > 0")
        browser.wait("document.querySelector('#requests .line').getAttribute('d').length > 20")
        pid = next(worker["pid"] for worker in server.status()["workers"] if worker["connections"])
        os.kill(pid, signal.SIGKILL)
        browser.wait(f"{text('deaths')} == '1'")
        browser.wait(f"{text('saved')} != '0'")
        browser.wait(f"{text('events')}.includes('worker {pid} ended (killed by SIGKILL)')")
        browser.wait(f"{READY} == 2")
        browser.value("document.getElementById('reload').focus()")
        press(browser, "Enter", 13, "\r")
        browser.wait(f"{text('outcome')} == 'Generation 2 serves.'")
        browser.wait(f"{text('about')}.includes('generation 2')")
        browser.wait(f"{text('reloads')} == '1'")
        browser.wait("!document.getElementById('more').disabled")
        browser.value("document.getElementById('more').click()")
        browser.wait(f"{text('outcome')} == '3 workers are ready.'")
        browser.wait(f"{READY} == 3 && document.querySelectorAll('#workers button:enabled').length == 3")
        browser.value("document.querySelector('#workers button').click()")
        browser.wait(f"{text('outcome')}.endsWith('has retired.')")
    assert browser.errors == []


def test_without_the_token_the_page_asks_for_it(serve, dashboard, browser):
    shown = dashboard(serve(), "--allow-actions")
    browser.open(shown.url.partition("#")[0])
    browser.wait("!document.getElementById('unlock').hidden")
    assert browser.value("document.getElementById('actions').hidden")
    for token, outcome in (("wrong", "'the token is wrong'"), (shown.token, "''")):
        browser.value(f"document.getElementById('token').value = '{token}'")
        browser.value("document.querySelector('#unlock button').click()")
        browser.wait(f"{text('outcome')}.startsWith({outcome})")
    browser.wait("!document.getElementById('actions').hidden")
    assert {error["entry"]["text"].partition(":")[0] for error in browser.errors} == {"Failed to load resource"}


def test_a_silent_server_and_a_silent_dashboard_are_shown(serve, dashboard, browser, tools):
    """No actions are allowed, and none are offered."""
    server = serve()
    shown = dashboard(server)
    browser.open(shown.url)
    browser.wait(f"{text('state')} == 'serving'")
    assert browser.value("document.getElementById('actions').hidden && document.getElementById('unlock').hidden")
    with server.paused():
        browser.wait(f"{text('alarm')}.startsWith('The server does not answer')")
    browser.wait(f"document.getElementById('alarm').hidden && {text('state')} == 'serving'")
    shown.close()
    browser.wait(f"{text('alarm')}.startsWith('The dashboard does not answer. The figures are from ')")


def test_everybody_can_read_and_use_it(serve, dashboard, browser):
    """Contrast, names for screen readers, the keyboard, and a phone's width, in both schemes."""
    shown = dashboard([serve(), serve()], "--allow-actions")
    browser.open(shown.url)
    browser.wait(f"{text('state')} == 'serving'")
    browser.wait("document.querySelectorAll('#workers tr').length == 2")
    browser.value(CHECKS)
    for scheme in ("light", "dark"):
        screen(browser, 1280, 900, scheme)
        assert browser.value("lowContrast()") == []
    assert browser.value("nameless()") == []
    assert browser.value("document.documentElement.lang") == "en"
    screen(browser, 390, 844)
    browser.wait("innerWidth == 390")
    assert browser.value("document.documentElement.scrollWidth") == 390
    seen = set()
    for _ in range(20):
        press(browser, "Tab", 9)
        seen.add(browser.value("document.activeElement.id || document.activeElement.textContent"))
        assert browser.value("document.activeElement === document.body || outlined(document.activeElement)")
    assert seen >= {"reload", "fewer", "more", "Retire", "events", "/metrics"}
    assert browser.errors == []
