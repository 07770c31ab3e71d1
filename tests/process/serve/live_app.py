"""The application of the tests of open WebSockets. It notes each message that it is given, and does what it says.

echo ...     answers with the message
hang         waits for ever at the first attempt, and answers at the second
part         sends a part of its answer, and then as `hang`
answer       answers, and then waits for ever at the first attempt, before it asks for the next message
big N        answers with N bytes
gate         answers once there is the file `open`
ahead ...    holds, asks for the next message, answers in a task once there is the file `open`, and releases
fill N       sends messages until the kernel has no room, and then one of N bytes, if N is not 0
die          kills the worker
close        closes the WebSocket with code 4000
about        answers with what it knows of itself, as JSON
state X      stores the state X

The path says what it asks for: `/ws/redeliver`, or `/ws/commit` (redelivery, and a commit with each first answer);
`/ws/gate` waits for the file `open` before it accepts, `/ws/late` before it receives; `/ws/again/...` does what
its next part says when it is called anew: `reject`, `raise`, `other` (subprotocol) or `die`; `/ws/refuse` refuses.
Each line of the file `noted` is a text and a process number.
"""

import asyncio
import json
import os
import signal

import uvicorn.config

if "WEBSOCKETS" in os.environ:  # one of uvicorn's classes
    uvicorn.config.WS_PROTOCOLS["auto"] = uvicorn.config.WS_PROTOCOLS[os.environ["WEBSOCKETS"]]


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})
        return
    await WebSocket(scope, receive, send).serve()


class WebSocket:
    def __init__(self, scope, receive, send):
        self.scope = scope
        self.path = scope["path"]
        self.fdpass = scope["extensions"].get("fdpass", {})
        self.resume = self.fdpass.get("resume")
        self.resumed = self.fdpass.get("resumed", 0)
        self.receive = receive
        self._send = send
        self.commits = False
        self.tasks = []

    async def serve(self):
        assert (await self.receive())["type"] == "websocket.connect"
        note(f"called-{self.resumed}")
        await self.open()
        if self.path in {"/ws/redeliver", "/ws/commit"}:
            self.resume.redeliver()
        if self.path == "/ws/late":
            await gate()
        while (message := await self.receive())["type"] == "websocket.receive":
            text = message["text"] if message.get("text") is not None else message["bytes"].decode()
            note(text)
            self.commits = self.path == "/ws/commit"
            await self.obey(text)
        note(f"disconnected-{message['code']}")
        try:
            await self._send({"type": "websocket.send", "text": "to nobody"})
        except OSError:
            note("send-raised")

    async def open(self):
        again = self.path.removeprefix("/ws/again/") if self.resumed else ""
        if again == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.path.endswith("/gate"):
            await gate()
        if again == "reject" or self.path.endswith("/refuse"):
            await self._send({"type": "websocket.close"})
        elif again == "raise":
            raise LookupError("on purpose")
        else:
            offered = self.scope["subprotocols"]
            chosen = offered[-1 if again == "other" else 0] if offered else None
            await self._send({"type": "websocket.accept", "subprotocol": chosen})

    async def obey(self, text):
        word, _, rest = text.partition(" ")
        if word == "ahead":
            self.resume.hold()
            self.tasks.append(asyncio.create_task(self.answer_later(text)))
            return
        if word == "gate":
            await gate()
        first = not (self.resume is not None and self.resume.attempt)
        if word == "part":
            await self.send("a part")
        if word in {"hang", "part"} and first:
            await asyncio.Event().wait()
        if word == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if word == "fill":
            await self.fill(int(rest))
            text = "full"
        if word == "big":
            text = "x" * int(rest)
        if word == "state":
            self.resume.commit(rest.encode())
        if word == "about":
            told = {key: value for key, value in self.fdpass.items() if key != "resume"}
            told |= {"pid": os.getpid(), "client": self.scope["client"]}
            if self.resume is not None:
                told |= {"state": self.resume.state.decode(), "attempt": self.resume.attempt}
            text = json.dumps(told)
        if word == "close":
            await self._send({"type": "websocket.close", "code": 4000})
        else:
            await self.send(text)
        if word == "fill":
            note("filled")
        if word == "answer" and first:
            await asyncio.Event().wait()

    async def answer_later(self, text):
        await gate()
        await self.send(text)
        self.resume.release()

    async def fill(self, more):
        count, transport = 0, self._send.__self__
        while not transport.get_write_buffer_size():
            await self.send(f"{count:010000d}")
            count += 1
        if more:
            await self.send("x" * more)
            note("filled")

    async def send(self, text):
        if self.commits:
            self.commits = False
            self.resume.with_next(text.encode()[:64])
        await self._send({"type": "websocket.send", "text": text})


async def gate():
    note("waits")
    while not os.path.exists("open"):
        await asyncio.sleep(0.01)


def note(text):
    with open("noted", "ab", 0) as file:
        file.write(f"{text.replace(' ', '_')[:80]} {os.getpid()}\n".encode())
