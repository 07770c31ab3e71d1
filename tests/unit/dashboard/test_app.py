"""The ASGI application, called in memory: paths, checks, the page's policy, tokens, the stream."""

import asyncio
import base64
import hashlib
import json
import re

import pytest

from fdpass._dashboard.app import App
from fdpass._dashboard.gate import Gate
from fdpass._dashboard.server import Server
from fdpass._dashboard.settings import WatchedServer
from fdpass._dashboard.watch import Watch

from ._statuses import status

TOKEN = "a-token-that-nobody-guesses"


class Fake(Server):
    """A server that answers from memory."""

    def __init__(self, name="shop", answers=None):
        super().__init__(WatchedServer(name, f"/nowhere/{name}.sock"))
        self.answers = iter(answers or [])
        self.polls = 0

    async def poll(self):
        self.polls += 1
        found = next(self.answers, status())
        if isinstance(found, str):
            await asyncio.sleep(0)
            self._note_silence(found)
        else:
            self._note(found)


class Client:
    """Calls an application."""

    def __init__(self, app):
        self.app = app

    async def request(self, method, path, *, query="", headers=(), body=b""):
        sent = []
        incoming = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def receive():
            return next(incoming, {"type": "http.disconnect"})

        async def send(message):
            sent.append(message)

        await self.app(scope(method, path, query, headers), receive, send)
        head, *rest = sent
        found = {key.decode(): value.decode() for key, value in head["headers"]}
        return head["status"], found, b"".join(each.get("body", b"") for each in rest)


def scope(method, path, query="", headers=()):
    given = {"host": "127.0.0.1:9100", **dict(headers)}
    return {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query.encode(),
        "headers": [(key.encode(), value.encode()) for key, value in given.items() if value is not None],
    }


def ask(method, path, *, servers=None, token="", local=True, **request):
    """One request to a dashboard that has polled once."""

    async def run():
        watch = Watch(servers or [Fake()], actions=bool(token))
        polling = asyncio.create_task(watch.run())
        try:
            return await Client(App(watch, Gate(token, only_local=local))).request(method, path, **request)
        finally:
            polling.cancel()
            await asyncio.gather(polling, return_exceptions=True)

    return asyncio.run(run())


@pytest.mark.parametrize("path", ["/", "/metrics", "/livez", "/readyz", "/status.json"])
def test_each_path_answers_get_and_head(path):
    code, headers, body = ask("GET", path)
    assert code == 200
    assert body
    assert int(headers["content-length"]) == len(body)
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    code, headers, body = ask("HEAD", path)
    assert (code, body) == (200, b"")
    assert int(headers["content-length"]) > 0


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [("POST", "/", 405), ("DELETE", "/metrics", 405), ("GET", "/other", 404), ("GET", "/actions/reload", 405)],
)
def test_other_paths_and_methods_are_refused(method, path, code):
    found, headers, body = ask(method, path, token=TOKEN)
    assert found == code
    assert ("allow" in headers) is (code == 405)
    assert json.loads(body)["ok"] is False


@pytest.mark.parametrize(
    ("answer", "live", "ready", "words"),
    [
        (status(), 200, 200, "shop: serving: 2 of 2 workers ready"),
        (status(server__stopping=True), 200, 503, "shop: stopping: the server is stopping"),
        (status(0), 200, 503, "shop: starting: no worker is ready"),
        ("no server listens there", 200, 503, "shop: silent: no server listens there"),
    ],
)
def test_the_checks_say_why(answer, live, ready, words):
    assert ask("GET", "/livez", servers=[Fake(answers=[answer])])[0] == live
    code, _, body = ask("GET", "/readyz", servers=[Fake(answers=[answer])])
    assert (code, body.decode()) == (ready, f"{words}\n")


def test_names_of_files_that_are_not_utf_8_are_escaped():
    path = "unix:/run/a\udcff"
    silent = Fake(answers=[f"no server listens at {path}"])
    assert ask("GET", "/readyz", servers=[silent])[2].endswith(b"a\\udcff\n")
    listener = {"address": path, "backlog": 0, "backlog_max": 1}
    code, _, body = ask("GET", "/metrics", servers=[Fake(answers=[status(listeners=[listener])])])
    assert code == 200
    assert b"a\\\\udcff" in body


def test_a_server_that_is_silent_for_long_does_not_live():
    server = Fake(answers=["the server has not answered within 2 s"])
    server.answered_at -= 30
    code, _, body = ask("GET", "/livez", servers=[server])
    assert code == 503
    assert re.fullmatch(rb"shop: silent for 3\d s: the server has not answered within 2 s\n", body)


def test_a_check_can_ask_for_one_server():
    def servers():
        return [Fake("shop"), Fake("chat", ["it is gone"])]

    assert ask("GET", "/readyz", servers=servers())[0] == 503
    assert ask("GET", "/readyz", servers=servers(), query="server=shop")[0] == 200
    assert ask("GET", "/readyz", servers=servers(), query="server=none")[0] == 404


def test_status_json_has_all_servers():
    _, headers, body = ask("GET", "/status.json", servers=[Fake("shop"), Fake("chat", ["it is gone"])])
    assert headers["content-type"] == "application/json"
    shop, chat = json.loads(body)["servers"]
    assert (shop["name"], shop["state"], shop["weight"]) == ("shop", "serving", 80)
    assert shop["status"]["server"]["app"] == "shop.main:app"
    assert (chat["state"], chat["why"], chat["status"], chat["sample"]) == ("silent", "it is gone", None, None)


def test_the_pages_policy_allows_its_own_style_and_script_and_nothing_else():
    _, headers, body = ask("GET", "/")
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    for name in ("style", "script"):
        (text,) = re.findall(rf"<{name}>(.*?)</{name}>".encode(), body, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text).digest()).decode()
        assert policy[f"{name}-src"] == f"'sha256-{digest}'"
    assert (policy["default-src"], policy["frame-ancestors"], policy["connect-src"]) == (
        "'none'",
        "'none'",
        "'self'",
    )
    assert "unsafe" not in headers["content-security-policy"]


def test_the_page_loads_nothing_from_elsewhere_and_has_no_style_attributes():
    """The policy would refuse both."""
    page = ask("GET", "/")[2].decode()
    assert re.findall(r"""<(?:script|img|link|iframe)[^>]*(?:src|href)=["'](?!data:)""", page) == []
    assert re.findall(r"\w+://[^\s'\"%)]*", page) == ["http://www.w3.org/2000/svg"]  # the icon's namespace
    assert re.findall(r"<\w[^>]*\sstyle=", page) == []
    assert re.findall(r"<\w[^>]*\son\w+=", page) == []
    assert 'lang="en"' in page


@pytest.mark.parametrize("host", ["127.0.0.1:9100", "localhost:9100", "[::1]:9100", "localhost", "10.1.2.3:80"])
def test_a_loopback_dashboard_answers_to_names_of_this_machine(host):
    assert ask("GET", "/status.json", headers=[("host", host)])[0] == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:9100", "localhost.evil.example", "", "[::1", "a b"]
)
def test_a_loopback_dashboard_refuses_the_name_of_another_site(host):
    """That name server may say 127.0.0.1, and the browser would let the site's script read the answer."""
    for path in ("/status.json", "/events", "/"):
        assert ask("GET", path, headers=[("host", host)])[0] == 421
    assert ask("GET", "/status.json", headers=[("host", host)], local=False)[0] == 200


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/status.json"])
def test_a_loopback_dashboard_can_be_read_without_a_host(path):
    """HAProxy's check sends no header Host by default, and a browser always sends it."""
    for method in ("GET", "HEAD"):
        assert ask(method, path, headers=[("host", None)])[0] == 200
    assert ask("POST", path, headers=[("host", None)])[0] == 421


@pytest.mark.parametrize("path", ["/", "/events", "/actions/reload"])
def test_a_loopback_dashboard_refuses_other_requests_without_a_host(path):
    for method in ("GET", "POST"):
        assert ask(method, path, headers=[("host", None)], token=TOKEN)[0] == 421


def act(verb, content, token=TOKEN, kind="application/json", given=TOKEN, **headers):
    found = {"content-type": kind, **headers}
    if token is not None:
        found["authorization"] = f"Bearer {token}"
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    code, _, reply = ask("POST", f"/actions/{verb}", token=given, headers=found.items(), body=body)
    return code, json.loads(reply)


@pytest.mark.parametrize("token", [None, "", "wrong", TOKEN[:-1], TOKEN + "x", "tök\u00e9n"])
def test_an_action_needs_the_token(token):
    code, reply = act("reload", {"server": "shop"}, token=token and token.encode().decode("latin-1"))
    assert code == 401
    assert reply["error"].startswith("the token is wrong")


def test_no_token_allows_an_action_where_none_is_allowed():
    for token in (TOKEN, "", None):
        assert act("reload", {"server": "shop"}, token=token, given="")[0] == 403


@pytest.mark.parametrize(
    ("verb", "content", "code"),
    [
        ("check", {}, 200),
        ("stop", {"server": "shop"}, 404),
        ("reload", {"server": "other"}, 404),
        ("reload", {}, 404),
        ("scale", {"server": "shop"}, 400),
        ("scale", {"server": "shop", "workers": "4"}, 400),
        ("scale", {"server": "shop", "workers": True}, 400),
        ("retire", {"server": "shop", "pid": 1.5}, 400),
        ("reload", b"{", 400),
        ("reload", b"[" * 4000, 400),
        ("reload", b"[]", 400),
        ("reload", b"x" * 5000, 413),
        ("reload", {"server": "shop"}, 502),  # no server listens at its socket
    ],
)
def test_an_action_is_checked(verb, content, code):
    assert act(verb, content)[0] == code


def test_an_action_is_json():
    """A form of another site cannot send this type without the browser asking first."""
    assert act("reload", {"server": "shop"}, kind="text/plain")[0] == 415


class Streamed:
    """Reads the events of the stream, until it leaves."""

    def __init__(self):
        self.events = asyncio.Queue()
        self.left = asyncio.Event()
        self.asked = False
        self.ended = False

    async def receive(self):
        if not self.asked:
            self.asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message):
        body = message.get("body", b"").decode()
        if body:
            name, data = re.fullmatch(r"event: (\w+)\ndata: (.*)\n\n", body).groups()
            self.events.put_nowait((name, json.loads(data)))
        self.ended = message["type"] == "http.response.body" and not message.get("more_body")


def test_the_stream_sends_history_snapshots_and_each_event_once():
    async def run():
        server = Fake()
        server._note_events({"last": 2, "events": [{"id": 1, "message": "one"}, {"id": 2, "message": "two"}]})
        watch = Watch([server], actions=False)
        polling = asyncio.create_task(watch.run())
        client = Streamed()
        app = App(watch, Gate("", only_local=True))
        running = asyncio.create_task(app(scope("GET", "/events"), client.receive, client.send))
        found = [await client.events.get() for _ in range(3)]
        assert [name for name, _ in found] == ["history", "snapshot", "events"]
        assert len(found[0][1]["shop"]) == 1
        assert [event["message"] for event in found[2][1]["events"]] == ["one", "two"]
        server._note_events({"last": 3, "events": [{"id": 3, "message": "three"}]})
        found = [await client.events.get() for _ in range(2)]
        assert [name for name, _ in found] == ["snapshot", "events"]
        assert [event["message"] for event in found[1][1]["events"]] == ["three"]
        client.left.set()
        await running
        assert not client.ended
        polling.cancel()
        await asyncio.gather(polling, return_exceptions=True)

    asyncio.run(run())


def test_the_end_of_the_dashboard_ends_the_streams():
    async def run():
        watch = Watch([Fake()], actions=False)
        polling = asyncio.create_task(watch.run())
        client = Streamed()
        app = App(watch, Gate("", only_local=True))
        running = asyncio.create_task(app(scope("GET", "/events"), client.receive, client.send))
        await client.events.get()
        await watch.close()
        await running
        assert client.ended
        polling.cancel()
        await asyncio.gather(polling, return_exceptions=True)

    asyncio.run(run())
