"""The application of ``test_live_streams.py``: event streams that go on behind ``last-event-id``, one kind a path.

Each call is a line in the file "calls": path, last id, how often the stream was continued, attempt, pid.
"""

import asyncio
import os
import signal

PART_SECONDS = 0.02
UNNAMED, HALF, PING = "data: {pid}\n\n", "id: {number}\nda", ": ping\n\n"
EVENT = "id: {number}\ndata: {pid}\n\n"
_LIST = [(b"content-type", b"text/event-stream; charset=utf-8")]
OTHERWISE = {  # status and headers when a stream is continued
    "/events/401": (401, [*_LIST, (b"content-length", b"0")]),
    "/events/204": (204, []),
    "/events/type": (200, [(b"content-type", b"text/plain")]),
    "/events/length": (200, [*_LIST, (b"content-length", b"1000")]),
}

LARGE = {"/events/large": 40_000_000, "/events/many": 10_000}  # bytes of a comment in each event, sent at once


async def app(scope, receive, send):
    """An ASGI application."""
    if scope["type"] == "lifespan":
        return await _lifespan(receive, send)
    path, fdpass = scope["path"], scope["extensions"]["fdpass"]
    last = dict(scope["headers"]).get(b"last-event-id", b"").decode()
    resumed = fdpass.get("resumed", "-")
    with open("calls", "a") as file:
        file.write(f"{path} {last or '-'} {resumed} {fdpass['attempt']} {os.getpid()}\n")
    if path == "/plain":
        return await _plain(send)
    if resumed and path == "/events/raises":
        raise RuntimeError("it does not go on")
    if resumed and path == "/events/nothing":
        return None
    ended = asyncio.get_running_loop().create_task(_end(receive))
    status, headers = OTHERWISE.get(path, (200, _LIST)) if resumed else (200, _LIST)
    await send({"type": "http.response.start", "status": status, "headers": headers})
    try:
        await _stream(path, int(last or 0), resumed, send, ended)
    finally:
        ended.cancel()


async def _stream(path, number, resumed, send, ended):
    async def part(text, *, more=True):
        body = text.format(number=number, pid=os.getpid()).encode()
        await send({"type": "http.response.body", "body": body, "more_body": more})

    if resumed and path == "/events/dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if not resumed and path == "/events/late":
        await part(PING)
        await ended
    while not ended.done():
        number += 1
        if path in LARGE:
            sending = asyncio.ensure_future(part(EVENT.replace("{pid}", f"{{pid}}\n: {'x' * LARGE[path]}")))
            if not (await asyncio.wait([sending], timeout=0.3))[0]:
                with open("stalled", "a") as file:
                    file.write(f"{path}\n")
            await sending
            continue
        await part(UNNAMED if path == "/events/unnamed" else EVENT)
        if path == "/events/pings":
            await part(PING)
        if number == 3 and path == "/events/half":
            number += 1
            await part(HALF)
            await ended
        if number >= 3 and path == "/events/waits":
            await ended
        if path == "/events/ends" and os.path.exists("end"):
            return await part(EVENT.replace("{pid}", "0"), more=False)
        await asyncio.wait([ended], timeout=PART_SECONDS)
    with open("ended", "a") as file:
        file.write(f"{path} {os.getpid()}\n")
    return None


async def _plain(send):
    body = str(os.getpid()).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


async def _end(receive):
    while (await receive())["type"] != "http.disconnect":
        pass


async def _lifespan(receive, send):
    while True:
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            return
