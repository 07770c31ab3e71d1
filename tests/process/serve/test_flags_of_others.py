"""A server that is started with the flags of uvicorn and gunicorn does what they do."""

import contextlib
import http.client
import json
import socket

import pytest

from ._websockets import CLOSE, LIMIT, PING

SHOW = """
import json, os

async def app(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})
        return
    shown = {name: scope[name] for name in ("client", "scheme", "path", "root_path")}
    shown["env"] = os.environ.get("FDPASS_TEST_TOKEN"), os.environ.get("FDPASS_TEST_OTHER")
    body = json.dumps(shown).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-own", b"1")]})
    await send({"type": "http.response.body", "body": body})

def wsgi(environ, start_response):
    names = "SCRIPT_NAME", "PATH_INFO", "REMOTE_ADDR", "wsgi.url_scheme", "HTTP_HOST"
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({name: environ[name] for name in names}).encode()]
"""


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def ask(port, path="/a%20b?c", headers=None):
    """Headers and JSON of a response."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT)) as connection:
        connection.request("GET", path, headers=headers or {})
        response = connection.getresponse()
        return response.headers, json.loads(response.read())


def test_flags_of_both_servers_together(serve):
    port = free_port()
    flags = f"""--host 127.0.0.1 --port {port} --root-path /shop --header X-Frame-Options:DENY --no-date-header
        --no-server-header --timeout-keep-alive 60 --timeout-graceful-shutdown 5 --limit-max-requests 1000000
        --http auto --env-file .env --access-logfile log""".split()
    files = {"show.py": SHOW, ".env": "FDPASS_TEST_TOKEN='of the file'\nFDPASS_TEST_OTHER=of the file\n"}
    pytest.importorskip("dotenv")
    form = '%(h)s "%(r)s" %(s)s %({user-agent}i)s %({x-own}o)s'
    env = {"WEB_CONCURRENCY": "1", "FDPASS_WORKER": "7", "FDPASS_TEST_OTHER": "set before"}
    server = serve("show:app", *flags, "--access-logformat", form, bind=(), workers=None, env=env, files=files)
    headers, shown = ask(port, headers={"User-Agent": "test 1"})
    assert shown["path"] == "/shop/a b"
    assert shown["root_path"] == "/shop"
    assert shown["env"] == ["of the file", "set before"]
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Date"] is None
    assert headers["Server"] is None
    assert len(server.workers()) == 1
    assert "FDPASS_WORKER in the environment has no effect: did you mean FDPASS_WORKERS?" in server.log()
    server.stop()
    assert (server.folder / "log").read_text() == '127.0.0.1 "GET /shop/a%20b?c HTTP/1.1" 200 test 1 1\n'


def test_root_path_is_the_script_name_of_a_wsgi_application(serve):
    server = serve("show:wsgi", "--root-path", "/shop/", "-w", "1", files={"show.py": SHOW}, workers=None)
    _, shown = ask(server.address[1])
    assert (shown["SCRIPT_NAME"], shown["PATH_INFO"]) == ("/shop", "/a b")


def test_a_message_of_a_websocket_that_is_too_large_closes_it_and_pings_come(serve, open_websocket):
    flags = "--ws-max-size", "1K", "--ws-ping-interval", "0.2"
    server = serve("show:app", *flags, files={"show.py": SHOW})
    websocket = open_websocket(server, "/")
    assert websocket.hear_frame()[0] & 15 == PING
    websocket.say("x" * 1025)
    while (found := websocket.hear_frame())[0] & 15 == PING:
        pass
    assert found[0] & 15 == CLOSE
    assert int.from_bytes(found[1][:2]) == 1009
