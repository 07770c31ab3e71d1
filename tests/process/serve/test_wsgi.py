"""WSGI with real servers and real programs: bodies, streams, files, and threads that hang."""

import contextlib
import http.client
import json
import os
import threading
import time

import pytest

APPS = """
    import json, os, sys, threading
    from wsgiref.validate import validator

    TEXT = ("Content-Type", "text/plain")
    closed = []

    class Stream:
        def __iter__(self):
            return self
        def __next__(self):
            threading.Event().wait(0.02)
            return b"data: x\\n\\n"
        def close(self):
            closed.append(True)

    def right(environ, start_response):
        path = environ["PATH_INFO"]
        if path == "/stream":
            start_response("200 OK", [("Content-Type", "text/event-stream")])
            return Stream()
        start_response("200 OK", [TEXT])
        if path == "/closed":
            return [b"%d" % len(closed)]
        if path == "/errors":
            environ["wsgi.errors"].write("to the errors\\n")
        told = {key: value for key, value in environ.items() if isinstance(value, str)}
        return [json.dumps(told | {"pid": os.getpid(), "thread": threading.active_count()}).encode()]

    valid = validator(right)

    def app(environ, start_response):
        if environ["PATH_INFO"] == "/wrong":
            start_response("200 OK", [TEXT])
            return ["text"]
        return valid(environ, start_response)

    def hangs(environ, start_response):
        start_response("200 OK", [TEXT, ("Content-Length", "5")])
        if environ["PATH_INFO"] == "/hang":
            yield b"f"
            wait_for_the_database()
        yield b"%05d" % os.getpid()

    def wait_for_the_database():
        threading.Event().wait()
"""
FLASK = """
    import os
    from flask import Flask, request, send_file

    app = Flask(__name__)

    @app.post("/size")
    def size():
        return str(len(request.get_data()))

    @app.post("/upload")
    def upload():
        return str(len(request.files["file"].read()))

    @app.get("/file")
    def file():
        return send_file(os.environ["SENT_FILE"], conditional=True)

    @app.get("/user")
    def user():
        return request.headers.get("X-Auth-User", "nobody")
"""
DJANGO = """
    import os
    import django
    from django.conf import settings
    from django.core.wsgi import get_wsgi_application
    from django.http import FileResponse, HttpResponse
    from django.urls import path
    from django.views.decorators.csrf import csrf_exempt

    settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="only for a test", USE_TZ=True,
                       DATA_UPLOAD_MAX_MEMORY_SIZE=None)

    @csrf_exempt
    def size(request):
        return HttpResponse(len(request.body))

    @csrf_exempt
    def upload(request):
        return HttpResponse(len(request.FILES["file"].read()))

    def file(request):
        return FileResponse(open(os.environ["SENT_FILE"], "rb"))

    def user(request):
        return HttpResponse(request.headers.get("X-Auth-User", "nobody"))

    urlpatterns = [path("size", size), path("upload", upload), path("file", file), path("user", user)]
    app = get_wsgi_application()
"""
BIG = os.urandom(3_000_000)
MULTIPART = b"--part\r\nContent-Disposition: form-data; name=file; filename=f\r\n\r\n" + BIG + b"\r\n--part--\r\n"


def ask(server, method, path, body=None, headers=None):
    """Status, headers and body; a body that is an iterator goes in chunks."""
    with contextlib.closing(http.client.HTTPConnection(*server.address, timeout=60)) as connection:
        connection.request(method, path, body, headers or {}, encode_chunked=not isinstance(body, bytes | None))
        response = connection.getresponse()
        return response.status, response.headers, response.read()


@pytest.mark.parametrize(("name", "source"), [("flask", FLASK), ("django", DJANGO)])
def test_a_framework_gets_whole_bodies_and_sends_whole_files(serve, tmp_path, name, source):
    pytest.importorskip(name)
    sent = tmp_path / "sent.bin"
    sent.write_bytes(BIG)
    app = {f"{name}_.py": source}
    server = serve(f"{name}_:app", "--workers", "1", files=app, env={"SENT_FILE": str(sent)})
    chunks = {"Transfer-Encoding": "chunked"}
    if name == "flask":  # Django reads only bodies with a Content-Length
        assert ask(server, "POST", "/size", iter([BIG]), chunks)[2] == b"3000000"
    assert ask(server, "POST", "/size", BIG)[2] == b"3000000"
    form = {"Content-Type": "multipart/form-data; boundary=part"}
    assert ask(server, "POST", "/upload", MULTIPART, form)[2] == b"3000000"
    status, headers, body = ask(server, "GET", "/file")
    assert (status, body == BIG, headers["Content-Length"]) == (200, True, "3000000")
    assert len(headers.get_all("Date")) == 1
    spoofed = {"X-Auth-User": "bob", "X-Auth_User": "root"}
    assert ask(server, "GET", "/user", headers=spoofed)[2] == b"bob"
    assert "Traceback" not in server.log()
    server.wait_connections(live=0, lost=0)


def test_ten_clients_of_a_stream_leave_and_the_threads_come_back(serve, client, tools):
    server = serve("apps:app", "--workers", "1", "--threads", "10", files={"apps.py": APPS})
    for round in range(3):
        clients = [client(server).send("/stream") for _ in range(10)]
        for one in clients:
            assert one.head()[0] == 200
        for one in clients:
            one.reset() if round == 1 else one.close()

        def all_closed(wanted=10 * round + 10):
            return int(ask(server, "GET", "/closed")[2]) == wanted

        tools.wait_until(all_closed, "all are closed: ", server.log)
    assert json.loads(ask(server, "GET", "/")[2])["thread"] <= 12
    assert "Traceback" not in server.log()


def test_a_wrong_part_is_a_500_and_takes_no_thread(serve):
    server = serve("apps:app", "--workers", "1", "--threads", "1", files={"apps.py": APPS})
    for _ in range(3):
        assert ask(server, "GET", "/wrong")[0] == 500
    assert ask(server, "GET", "/")[0] == 200
    assert server.log().count("the application failed: GET /wrong") == 3


def test_underscores_pass_with_the_setting(serve):
    server = serve("apps:app", "--workers", "1", "--underscore-headers", files={"apps.py": APPS})
    told = json.loads(ask(server, "GET", "/", headers={"X_Auth_User": "root"})[2])
    assert told["HTTP_X_AUTH_USER"] == "root"


def test_the_access_log_stays_clean_of_what_the_application_writes(serve, tmp_path, tools):
    """``wsgi.errors`` is standard error, and the size of a sent file is counted."""
    pytest.importorskip("flask")
    sent = tmp_path / "sent.bin"
    sent.write_bytes(BIG)
    flags = ("--workers", "1", "--log-json", "--access-log", "access")
    files = {"apps.py": APPS, "flask_.py": FLASK}
    server = serve("apps:app", *flags, files=files)
    ask(server, "GET", "/errors")
    server.wait_log("to the errors\n")
    tools.wait_until((server.folder / "access").read_text, "a line is there: ", server.log)
    (line,) = (server.folder / "access").read_text().splitlines()
    assert json.loads(line)["path"] == "/errors"
    assert server.stop() == 0
    server = serve("flask_:app", *flags[:3], "--access-log", "access2", files=files, env={"SENT_FILE": str(sent)})
    ask(server, "GET", "/file")
    tools.wait_until((server.folder / "access2").read_text, "a line is there: ", server.log)
    (line,) = (server.folder / "access2").read_text().splitlines()
    assert json.loads(line)["bytes"] == 3_000_000


def test_over_a_unix_socket(serve, client, tmp_path):
    path = str(tmp_path / "http.sock")
    server = serve("apps:app", "--workers", "1", bind=[f"unix:{path}"], files={"apps.py": APPS})
    status, text = client(server, address=path).send("/").answer()
    told = json.loads(text)
    assert status == 200
    assert (told["SERVER_NAME"], told["SERVER_PORT"], told["REMOTE_ADDR"]) == ("localhost", "80", "")


def test_a_worker_half_of_whose_threads_hang_is_replaced_and_the_rest_is_served(serve, client):
    flags = ("--workers", "1", "--threads", "2", "--request-timeout", "0.3", "--graceful-timeout", "1")
    server = serve("apps:hangs", *flags, files={"apps.py": APPS})
    (first,) = server.workers()
    hung = client(server).send("/hang?token")
    log = server.wait_log("the worker is replaced")
    assert "GET /hang has kept its thread for 0." in log
    assert "in wait_for_the_database\n    threading.Event().wait()" in log
    server.wait_log("is ready", 2)  # new before old
    server.wait_status(
        lambda status: first not in [one["pid"] for one in status["workers"] if one["state"] == "ready"]
    )
    status, _, body = ask(server, "GET", "/")
    assert (status, int(body) != first) == (200, True)
    server.wait_log(f"worker {first} has retired")  # its thread does not keep it
    data, _ = hung.cut()
    assert data.endswith(b"\r\n\r\nf")  # less than its length
    assert server.log().count("has kept its thread") == 1


@pytest.mark.parametrize("how", ["reload", "stop"])
def test_a_request_in_a_thread_is_finished(serve, client, how):
    text = """
        import os, time
        def app(environ, start_response):
            open("begun", "w").close()
            while not os.path.exists("go"):
                time.sleep(0.01)
            start_response("200 OK", [("Content-Length", "4")])
            return [b"done"]
    """
    server = serve("app:app", "--workers", "1", files={"app.py": text})
    one = client(server).send("/")
    while not (server.folder / "begun").exists():
        time.sleep(0.01)
    ending = threading.Thread(target=lambda: server.cli("reload") if how == "reload" else server.stop())
    ending.start()
    server.wait_log("generation 2 serves" if how == "reload" else "stopping")
    (server.folder / "go").touch()
    assert one.answer() == (200, "done")
    ending.join()


def test_a_safe_request_is_repeated_when_its_worker_dies(serve):
    text = """
        import os, signal
        def app(environ, start_response):
            if environ["fdpass.attempt"] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            start_response("200 OK", [("Content-Length", "1")])
            return [b"%d" % environ["fdpass.attempt"]]
    """
    server = serve("app:app", "--workers", "2", files={"app.py": text})
    assert ask(server, "GET", "/")[2] == b"1"
    assert ask(server, "POST", "/", b"x")[0] == 502
