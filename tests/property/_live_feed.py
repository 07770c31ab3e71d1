"""An event stream's client and application for the custody tests, and what must hold at each moment of it."""

import asyncio
import re

from fdpass.serve.dispatcher.recovery import MOST_ATTEMPTS, Action
from fdpass.serve.shared.slots import OPEN, POSITION, SECOND, STATE_WORDS, STATES, WRITTEN

_ID = re.compile(rb"^id: ?(.*?)\r?$", re.MULTILINE)
_CHUNK = re.compile(rb"([0-9a-f]+)\r\n")


def chunks(data):
    """The bodies of all whole chunks, whether bytes of one more are there, and whether the last one was empty."""
    bodies, place = [], 0
    while (found := _CHUNK.match(data, place)) is not None:
        size, start = int(found[1], 16), found.end()
        if start + size + 2 > len(data):
            break
        bodies.append(data[start : start + size])
        place = start + size + 2
    ended = bool(bodies) and not bodies[-1]
    return bodies, place < len(data) and not ended, ended, place


class Feed:
    """One event stream.

    Args:
        count: How many events there are.
        parts: In how many chunks an event is sent.
        together: How many events a chunk has.
        ids: The events have ids; `late`: only from the second on.
        comments: A comment goes before each event, in a chunk of its own.
        ends: The application ends the response behind the last event.
        otherwise: What a resumed application answers in the place of the stream: 401, or another content type.
        more: The client sends another request behind this one: `waits` for the end, or does not (`pipelined`).
        turns: Turns of the loop between two events.
    """

    kind = "http"
    ends = ()

    def __init__(
        self, count=3, *, parts=1, together=1, ids=True, comments=False, ends=False, otherwise="", more="", turns=1
    ):
        self.count, self.parts, self.together, self.ids = count, parts, together, ids
        self.comments, self.is_finite, self.otherwise, self.more, self.turns = (
            comments,
            ends,
            otherwise,
            more,
            turns,
        )
        self.request = b"GET /live/feed HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n"
        self.next = b"GET /live/next HTTP/1.1\r\nHost: x\r\n\r\n"
        self.stream = self.request + (self.next if more else b"")
        self.sent = self.calls = self.nexts = 0
        self.left = self.began = 0  # applications that were told of an end; those that began

    def event(self, number):
        named = self.ids is True or (self.ids == "late" and number > 1)
        return (b"id: %d\n" % number if named else b"") + b"data: event %d\n\n" % number

    @property
    def body(self):
        """All events, as they come at the end."""
        return b"".join(self.event(number) for number in range(1, self.count + 1))

    # The client

    def send(self, out):
        if not self.sent:
            self.sent = len(self.request)
            return self.request + (self._more() if self.more == "pipelined" else b"")
        if self.more == "waits" and self.sent == len(self.request) and self.parse(out)[2]:
            return self._more()
        return b""

    def _more(self):
        self.sent = len(self.stream)
        return self.next

    def parse(self, out):
        """The events' bytes, whether a part of a chunk has come, whether the stream has ended, and where."""
        head, found, rest = out.partition(b"\r\n\r\n")
        if not found:
            return b"", bool(out), False, 0
        bodies, partial, ended, place = chunks(rest)
        return b"".join(bodies), partial, ended, len(head) + 4 + place

    # The application

    async def app(self, worker, scope, receive, send):
        if scope["path"] == "/live/next":
            self.nexts += not worker.dead
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
            await send({"type": "http.response.body", "body": b"next"})
            return
        self.calls += not worker.dead
        headers = dict(scope["headers"])
        if scope["extensions"]["fdpass"].get("resumed") and self.otherwise:
            kind = b"text/plain" if self.otherwise != "401" else b"text/event-stream"
            status = 401 if self.otherwise == "401" else 200
            await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", kind)]})
            await send({"type": "http.response.body", "body": b"no"})
            return
        kind = (b"content-type", b"text/event-stream; charset=utf-8")
        await send({"type": "http.response.start", "status": 200, "headers": [kind]})
        number = int(headers.get(b"last-event-id", b"0"))
        watching = asyncio.ensure_future(self._watch(receive))
        try:
            while number < self.count and not watching.done():
                if self.comments:
                    await self._send(send, b": nothing\n\n")
                events = b""
                for _ in range(min(self.together, self.count - number)):
                    number += 1
                    events += self.event(number)
                size = -(-len(events) // self.parts)
                for place in range(0, len(events), size):
                    await self._send(send, events[place : place + size])
                    worker.act(lambda: None)
                for _ in range(self.turns):
                    await asyncio.sleep(0)
            if self.is_finite:
                await send({"type": "http.response.body", "body": b""})
            else:
                await watching
        finally:
            watching.cancel()

    async def _watch(self, receive):
        while (await receive())["type"] != "http.disconnect":
            pass
        self.left += 1

    async def _send(self, send, body):
        await send({"type": "http.response.body", "body": body, "more_body": True})

    # What has to hold

    def judge(self, world, decision, memory, state):
        out, action = world.sent(decision), decision.action
        body, partial, ended, place = self.parse(out)
        whole = self.judge_events(body, state)
        if ended:
            self._judge_next(world, decision, place, state)
        elif b"\r\n\r\n" not in out:
            self._judge_request(world, decision, memory, state)
        elif action in {Action.IDLE, Action.REPLAY}:
            assert whole, state
            assert not partial, state
            assert decision.written & OPEN, state
            assert decision.written & POSITION == len(out), state
            assert decision.base == len(self.request), state
            assert self.is_named(body), state
            self.judge_state(world, decision.written, body, state)
            if action is Action.IDLE:
                assert world.read == decision.base, state
            else:
                assert world.bytes_of(decision, memory) == self.stream[decision.base : world.read] != b"", state
        elif action is Action.RESET:
            never = world.buffers == 0 or self.more == "pipelined"  # for another worker
            part = world.words[WRITTEN] & POSITION != len(out)  # of what the application has sent
            assert part or partial or not whole or not self.is_named(body) or never or world.unsure, state
        else:
            assert action is Action.RESTART, state
            often = world.dead >= MOST_ATTEMPTS
            assert often or world.read > len(self.request) or world.is_homeless(len(self.request)), state

    def _judge_request(self, world, decision, memory, state):
        action, out, read = decision.action, world.out, world.read
        if action is Action.IDLE:
            assert not read, state
            assert not out, state
        elif action is Action.REPLAY:
            assert not out, state
            assert world.bytes_of(decision, memory) == self.stream[:read] != b"", state
        elif action is Action.RESET:
            assert out or world.unsure, state
        else:
            assert action is Action.ANSWER, state
            assert not out, state
            assert world.dead or world.is_homeless(0), state

    def _judge_next(self, world, decision, place, state):
        """The stream has ended: it is a request that was answered, and nothing of it may be sent again."""
        action, base = decision.action, len(self.request)
        after = world.out[place:]
        answered = after.endswith(b"next")
        if action in {Action.IDLE, Action.REPLAY}:
            assert not decision.written & OPEN, state
            assert decision.written & POSITION == len(world.out), state
            assert not after or answered, state
            assert decision.base == (len(self.stream) if answered else base), state
        elif action is Action.ANSWER:
            assert not after, state
            assert world.dead or world.is_homeless(base), state
        else:
            assert action in {Action.RESET, Action.FINISH}, state
            assert (after and not answered) or world.unsure or world.patience == 0, state

    def is_named(self, body):
        """Whether the client knows where to go on: it has an id, or got no event."""
        return b"id:" in body or b"data:" not in body

    def judge_events(self, body, state):
        """No event is skipped, and none comes twice; True if no event has come in part."""
        named = body.replace(b": nothing\n\n", b"")
        if self.ids is True:
            assert self.body.startswith(named) or named.endswith((b":", b": nothing", b": nothing\n")), (
                body,
                state,
            )
        return not body or body.endswith(b"\n\n")

    def judge_state(self, world, written, body, state):
        start = STATES + (STATE_WORDS if written & SECOND else 0)
        words = world.words
        found = words[start + 1 : start + STATE_WORDS].tobytes()[: words[start]]
        last = _ID.findall(body)
        assert found == (last[-1] if last else b""), (found, body, state)

    def judge_return(self, world, base, written, read, state):
        out = world.given_back
        body, partial, ended, _ = self.parse(out)
        assert not partial, state
        assert not ended, state
        assert self.judge_events(body, state), (body, state)
        assert written & POSITION == len(out), state
        assert base == len(self.request), state
        assert self.is_named(body), state
        self.judge_state(world, written, body, state)
        assert read == self.stream[base : world.read], (read, state)

    def served(self, world):
        body, partial, ended, _ = self.parse(world.out)
        state = (world.words.tolist(), world.out, world.read, world.incoming)
        assert not partial, state
        assert body.replace(b": nothing\n\n", b"") == self.body, state
        assert ended == self.is_finite, state
        if self.is_finite and self.more:
            assert world.out.endswith(b"next"), state
