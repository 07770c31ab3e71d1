"""Applications whose responses are broken: their client sees an end at once, and the worker goes on."""

import pytest

APP = """
    import asyncio

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            raise NotImplementedError
        kind = scope["path"][1:]
        length, parts = {
            "no end": (9, [b"abc"]),
            "too long": (2, [b"abc"]),
            "too long in the end": (5, [b"abc", b"def"]),
            "too short": (9, [b"abc", b""]),
        }.get(kind, (3, [b"abc"]))
        if kind == "nothing":
            return
        name = "name" if kind == "no bytes" else b"content-length"
        await send({"type": "http.response.start", "status": 200, "headers": [(name, b"%d" % length)]})
        if kind == "no body":
            return
        if kind == "fails":
            raise RuntimeError("after the head")
        for number, part in enumerate(parts, 1):
            more = number < len(parts) or kind == "no end"
            await send({"type": "http.response.body", "body": part, "more_body": more})
            if kind == "too long in the end":
                await asyncio.sleep(0.01)
"""
KINDS = ["nothing", "no bytes", "no body", "fails", "no end", "too long", "too long in the end", "too short"]


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("custody", ["on", "off"])
def test_a_response_that_fails_ends_its_connection(serve, custody, loop):
    server = serve("broken:app", "--custody", custody, "--loop", loop, files={"broken.py": APP})
    for kind in KINDS:
        answer = server.exchange(f"GET /{kind.replace(' ', '%20')} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        assert b"\r\n\r\nabcdef" not in answer, kind
    assert server.exchange(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").endswith(b"\r\n\r\nabc")
    server.wait_connections(live=0, finished=len(KINDS) + 1)
    server.wait_log("the application failed: GET /fails\nTraceback")
    server.wait_log("the application returned without starting a response: GET /nothing")
    server.wait_log("the application returned without completing its response: GET /no end")
