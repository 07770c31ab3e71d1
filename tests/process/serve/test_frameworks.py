"""Frameworks that people use, served end to end: a page, a form, a WebSocket that holds on."""

import http.client
from contextlib import ExitStack, closing
from urllib.parse import urlencode

import pytest
from websockets.sync.client import connect

PAGE = "<h1>fdpass serves {}</h1>"
APPS = {
    "starlette": """
        from urllib.parse import parse_qs
        from starlette.applications import Starlette
        from starlette.responses import HTMLResponse, PlainTextResponse
        from starlette.routing import Route, WebSocketRoute

        async def page(request):
            return HTMLResponse("<h1>fdpass serves starlette</h1>")

        async def greet(request):
            return PlainTextResponse("hello " + parse_qs((await request.body()).decode())["name"][0])

        async def echo(socket):
            await socket.accept()
            async for text in socket.iter_text():
                await socket.send_text(text.upper())

        post = Route("/greet", greet, methods=["POST"])
        app = Starlette(routes=[Route("/", page), post, WebSocketRoute("/ws", echo)])
    """,
    "fastapi": """
        from urllib.parse import parse_qs
        from fastapi import FastAPI, Request, WebSocket
        from fastapi.responses import HTMLResponse, PlainTextResponse

        app = FastAPI()

        @app.get("/", response_class=HTMLResponse)
        async def page():
            return "<h1>fdpass serves fastapi</h1>"

        @app.post("/greet", response_class=PlainTextResponse)
        async def greet(request: Request):
            return "hello " + parse_qs((await request.body()).decode())["name"][0]

        @app.websocket("/ws")
        async def echo(socket: WebSocket):
            await socket.accept()
            async for text in socket.iter_text():
                await socket.send_text(text.upper())
    """,
    "django": """
        import django
        from django.conf import settings
        from django.core.asgi import get_asgi_application
        from django.core.wsgi import get_wsgi_application
        from django.http import HttpResponse
        from django.urls import path
        from django.views.decorators.http import require_POST

        settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="only for a test", USE_TZ=True)

        def page(request):
            return HttpResponse("<h1>fdpass serves django</h1>")

        @require_POST
        def greet(request):
            return HttpResponse("hello " + request.POST["name"], content_type="text/plain; charset=utf-8")

        urlpatterns = [path("", page), path("greet", greet)]
        wsgi, asgi = get_wsgi_application(), get_asgi_application()
    """,
    "flask": """
        from flask import Flask, request

        app = Flask(__name__)

        @app.get("/")
        def page():
            return "<h1>fdpass serves flask</h1>"

        @app.post("/greet")
        def greet():
            return "hello " + request.form["name"], {"content-type": "text/plain; charset=utf-8"}
    """,
    "aiohttp_": """
        import asyncio
        from aiohttp import web

        async def page(request):
            return web.Response(text="<h1>fdpass serves aiohttp</h1>", content_type="text/html")

        async def greet(request):
            return web.Response(text="hello " + (await request.post())["name"])

        async def echo(request):
            socket = web.WebSocketResponse()
            await socket.prepare(request)
            async for message in socket:
                await socket.send_str(message.data.upper())
            return socket

        async def main(listener):
            app = web.Application()
            app.add_routes([web.get("/", page), web.post("/greet", greet), web.get("/ws", echo)])
            runner = web.AppRunner(app)
            await runner.setup()
            try:
                await web.SockSite(runner, listener).start()
                await asyncio.Event().wait()
            finally:
                await runner.cleanup()
    """,
}


def fetch(server, method, path, form=None):
    """Status, type and text of what a browser would get."""
    with closing(http.client.HTTPConnection(*server.address, timeout=60)) as connection:
        headers = {"content-type": "application/x-www-form-urlencoded"} if form else {}
        connection.request(method, path, urlencode(form) if form else None, headers)
        response = connection.getresponse()
        return response.status, response.headers.get_content_type(), response.read().decode()


def websocket(server):
    return connect("ws://{}:{}/ws".format(*server.address), proxy=None)


@pytest.mark.parametrize(
    ("name", "app", "flags", "sockets"),
    [
        ("starlette", "starlette_:app", (), True),
        ("fastapi", "fastapi_:app", (), True),
        ("django", "django_:wsgi", (), False),
        ("django", "django_:asgi", ("--interface", "asgi"), False),
        ("flask", "flask_:app", (), False),
        ("aiohttp", "aiohttp_:main", (), True),
    ],
    ids=["starlette", "fastapi", "django over WSGI", "django over ASGI", "flask", "aiohttp"],
)
def test_a_framework_serves_a_page_a_form_and_a_websocket(serve, name, app, flags, sockets):
    source = APPS["aiohttp_" if name == "aiohttp" else name]
    server = serve(app, *flags, files={f"{name}_.py": source})
    assert fetch(server, "GET", "/") == (200, "text/html", PAGE.format(name))
    assert fetch(server, "POST", "/greet", {"name": "Wörld & Co"}) == (200, "text/plain", "hello Wörld & Co")
    assert fetch(server, "GET", "/nothing-here")[0] == 404
    if sockets:
        with websocket(server) as socket:
            socket.send("hello")
            assert socket.recv() == "HELLO"
    server.wait_connections(live=0, lost=0, accepted=3 + sockets)
    assert "Traceback" not in server.log()


def test_a_websocket_holds_on_through_scaling_and_a_reload(serve):
    server = serve("starlette_:app", files={"starlette_.py": APPS["starlette"]})

    def alive():
        for number, socket in enumerate(sockets):
            socket.send(f"message {number}")
            assert socket.recv(60) == f"MESSAGE {number}"

    with ExitStack() as held:
        sockets = [held.enter_context(websocket(server)) for _ in range(4)]
        for act in (("scale", "4"), ("scale", "1"), ("reload",), ("scale", "2"), ("reload",)):
            server.cli(*act)
            alive()
        states = [worker["state"] for worker in server.status()["workers"]]
        assert states.count("ready") == 2
        assert states.count("retiring") >= 1  # those that have the WebSockets
        server.wait_connections(live=4, lost=0)
    server.wait_status(lambda status: [each["state"] for each in status["workers"]] == ["ready"] * 2)
    server.wait_connections(accepted=4, finished=4, live=0, lost=0)
