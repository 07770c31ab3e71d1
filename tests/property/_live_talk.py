"""A WebSocket's client and application for the custody tests: `Talk`."""

import asyncio
import contextlib
from dataclasses import dataclass

from ..corpus.frames import CLOSE, CONTINUATION, KEY, PING, TEXT, client_frame, server_frames
from ._live_judge import Judge

HANDSHAKE = (
    b"GET /live/talk HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


@dataclass
class Message:
    """One message of the client, and the control frames about it.

    Attributes:
        size: Bytes of its text.
        fragments: Frames that it is sent in.
        pings: Of these, one comes before each frame.
        waits: The client sends it when all earlier ones are answered.
        key: The mask.
    """

    size: int = 5
    fragments: int = 1
    pings: int = 0
    waits: bool = False
    key: bytes = KEY


class Talk(Judge):
    """One conversation.

    Args:
        mode: What the application says about resuming: one of MODES.
        messages: Of the client.
        does: What the application does with a message: echo, quiet (no answer), two (two answers), slow (turns of
            the loop before and after its answer), holds (answers from another task), closes (behind the last one).
            Or what it does when it is resumed: rejects, raises, other (accepts another subprotocol).
        closes: The client sends a close frame at the end.
    """

    kind = "websocket"

    def __init__(self, mode="default", messages=(), *, does="echo", closes=False):
        self.mode, self.does, self.closes = mode, does, closes
        self.stream, self.borders, self.ends, self.pieces, self.pings = HANDSHAKE, set(), [], [], []
        self.borders.add(len(HANDSHAKE))
        for number, message in enumerate(messages, 1):
            self._add(number, message)
        if closes:
            self._piece(client_frame(CLOSE, (1000).to_bytes(2, "big")), bool(messages) and does != "quiet")
        self.sent = 0  # bytes of the stream
        count = len(self.ends) + 1
        self.delivered = [0] * (count + 1)  # how often the application was given each message
        self.asked = 0  # the last message behind which it asked for the next one
        self.given = 0  # the last message that a living application was given
        self.committing = self.committed = 0  # of `commit`
        self.calls = self.resumed = 0
        self.holding = 0  # messages that the application holds
        self.codes = []  # of the disconnects that applications were told

    def _add(self, number, message):
        text = f"{number}:".encode().ljust(message.size, b"x")
        size = -(-len(text) // message.fragments)
        parts = [text[place : place + size] for place in range(0, len(text), size)]
        for place, part in enumerate(parts):
            for _ in range(message.pings):
                self._piece(client_frame(PING, b"p%d" % len(self.pings)), message.waits and not place)
                self.pings.append(len(self.stream))
                if not place:
                    self.borders.add(len(self.stream))
            opcode, fin = CONTINUATION if place else TEXT, place + 1 == len(parts)
            self._piece(client_frame(opcode, part, fin=fin, key=message.key), message.waits and not place)
        self.borders.add(len(self.stream))
        self.ends.append(len(self.stream))

    def _piece(self, data, waits):
        self.pieces.append((data, len(self.ends) if waits else 0))  # the message whose answer it waits for
        self.stream += data

    # The client

    def send(self, out):
        """What the client sends next, if it need not wait."""
        if not self.sent:
            self.sent = len(HANDSHAKE)
            return HANDSHAKE
        if not out.startswith(b"HTTP/1.1 101") or b"\r\n\r\n" not in out or not self.pieces:
            return b""
        data, after = self.pieces[0]
        if after and not {self.last_answer(after), b"at %d" % after} & set(self.answers(out)):
            return b""
        del self.pieces[0]
        self.sent += len(data)
        return data

    def frames(self, out):
        """The server's frames; how many bytes of one more; None before the WebSocket is open."""
        _, found, rest = out.partition(b"\r\n\r\n")
        if not found or not out.startswith(b"HTTP/1.1 101"):
            return None
        return server_frames(rest)

    def answers(self, out):
        frames, _ = self.frames(out) or ([], 0)
        return [frame.payload for frame in frames if frame.opcode == TEXT]

    def last_answer(self, number):
        return b"%d.2" % number if self.does == "two" else b"%d" % number

    def due(self, number):
        """What answers a message."""
        if self.does == "quiet":
            return []
        return [b"%d.1" % number, b"%d.2" % number] if self.does == "two" else [b"%d" % number]

    # The application

    async def app(self, worker, scope, receive, send):
        """The application, in one worker."""
        about = scope["extensions"]["fdpass"]
        resume = about["resume"]
        self.calls += not worker.dead
        again = about["resumed"] > 0
        self.resumed += again and not worker.dead
        assert (await receive())["type"] == "websocket.connect"
        if self.does == "rejects" and again:
            await send({"type": "websocket.close"})
            return
        if self.does == "raises" and again:
            raise RuntimeError("resumed")
        if self.mode != "default":
            resume.redeliver()
        await send({"type": "websocket.accept", "subprotocol": "b" if self.does == "other" and again else None})
        state, tasks = int(resume.state or b"0"), set()
        if not worker.dead:
            self.holding = 0
        if self.mode == "commit":
            self.committed = self.committing = max(state, self.committed)
        if state and self.mode == "commit":
            await send({"type": "websocket.send", "text": f"at {state}"})
        while True:
            worker.act(self._asks)
            message = await receive()
            if message["type"] == "websocket.disconnect":
                worker.act(lambda message=message: self.codes.append(message["code"]))
                await self._too_late(worker, send)
                return
            number = int(message["text"].partition(":")[0])
            worker.act(lambda number=number: self._is_given(number))
            if self.does == "holds":
                worker.act(lambda: setattr(self, "holding", self.holding + 1))
                resume.hold()
                tasks.add(asyncio.create_task(self._answer_later(worker, number, send, resume)))
                continue
            await self._answer(worker, number, send, resume)
            if self.does == "closes" and number == len(self.ends):
                await send({"type": "websocket.close", "code": 1000})

    async def _answer_later(self, worker, number, send, resume):
        """Answer from another task, while the next message is awaited already."""
        for _ in range(3):
            await asyncio.sleep(0)
        with contextlib.suppress(OSError):  # the connection has gone
            await self._answer(worker, number, send, resume)
        worker.act(lambda: setattr(self, "holding", self.holding - 1))
        if not self.holding:
            worker.act(self._asks)
        resume.release()

    async def _too_late(self, worker, send):
        """Whoever sends behind a disconnect gets an error."""
        try:
            await send({"type": "websocket.send", "text": "late"})
        except (OSError, RuntimeError):
            return
        if not worker.dead:
            worker.world.failures.append(AssertionError("a send behind the disconnect raised nothing"))

    def _asks(self):
        if not self.holding:
            self.asked = max(self.asked, self.given)

    def _is_given(self, number):
        self.delivered[number] += 1
        self.given = number

    async def _answer(self, worker, number, send, resume):
        if self.does == "slow":
            await asyncio.sleep(0)
        due = self.due(number)
        if self.mode == "commit":
            worker.act(lambda: setattr(self, "committing", number))
            resume.commit(b"%d" % number)
            worker.act(lambda: setattr(self, "committed", number))
        elif self.mode == "with_next":
            worker.act(lambda: setattr(self, "committing", number))
        for place, text in enumerate(due, 1):
            if self.mode == "with_next" and place == len(due):
                resume.with_next(b"%d" % number)
            await send({"type": "websocket.send", "text": text.decode()})
        if self.does == "slow":
            await asyncio.sleep(0)
