"""What must hold at each moment of a WebSocket's talk: `Judge`, the part of `Talk` that looks at it."""

from fdpass.serve.dispatcher.recovery import MOST_ATTEMPTS, Action
from fdpass.serve.shared.slots import BASE, GIVEN, OPEN, POSITION, SECOND, STATE_WORDS, STATES, WRITTEN

from ..corpus.frames import CLOSE, PONG, TEXT

MODES = ("default", "redeliver", "with_next", "commit")


class Judge:
    """See above. What it asks for is in `Talk`."""

    def judge(self, world, decision, memory, state):
        out = world.sent(decision)
        frames = self.frames(out)
        if frames is None:
            self._judge_handshake(world, decision, memory, state)
            return
        frames, partial = frames
        closed = any(frame.opcode == CLOSE for frame in frames)
        self.judge_answers(frames, state)
        action = decision.action
        if action in {Action.IDLE, Action.REPLAY}:
            assert not partial, state
            assert not closed, state
            assert decision.written & OPEN, state
            assert decision.written & POSITION == len(out), state
            self.judge_base(world, decision.base, frames, state)
            self.judge_state(world, decision.written, frames, state)
            if action is Action.IDLE:
                assert world.read == decision.base, state
            else:
                assert world.bytes_of(decision, memory) == self.stream[decision.base : world.read], state
                assert world.read > decision.base, state
        elif action is Action.RESTART:
            assert not partial, state
            assert not closed, state
            assert self._is_in_doubt(world), state
        elif action is Action.RESET:
            sent = world.words[WRITTEN] & POSITION > len(out)  # more than is out, and not in the backlog yet
            assert sent or partial or decision.unsent or world.unsure, state
        else:
            assert action is Action.FINISH, state
            assert closed, state

    def _judge_handshake(self, world, decision, memory, state):
        action, out, read = decision.action, world.out, world.read
        whole = b"\r\n\r\n" in out  # another answer than 101
        if action is Action.IDLE:
            assert read == 0, state
            assert not out, state
        elif action is Action.REPLAY:
            assert not out, state
            assert world.bytes_of(decision, memory) == self.stream[:read] != b"", state
        elif action is Action.RESET:
            assert (out and not whole) or world.unsure, state
        elif action is Action.ANSWER:
            assert not out, state
            assert world.dead or world.is_homeless(0), state
        else:
            assert action is Action.FINISH, state
            assert whole, state

    def judge_base(self, world, base, frames, state):
        """The next worker gets each message that is not done with, and no other."""
        assert base in self.borders, state
        assert base <= world.read, state
        answers = [frame.payload for frame in frames if frame.opcode == TEXT]
        for number, end in enumerate(self.ends, 1):
            if end <= base:
                assert self._is_done(number, answers), (number, state)
            else:
                assert not self._is_spent(number, answers), (number, state)
        pongs = sum(frame.opcode == PONG for frame in frames)
        assert pongs >= sum(end <= base for end in self.pings), (pongs, self.pings, state)

    def _is_done(self, number, answers):
        if self.mode == "with_next":
            return self.last_answer(number) in answers
        if self.mode == "commit":
            return number <= self.committing
        return number <= self.asked

    def _is_spent(self, number, answers):
        """It must not be given again."""
        if self.mode == "with_next":
            return self.last_answer(number) in answers
        if self.mode == "commit":
            return number <= self.committed
        return self.delivered[number] >= (1 if self.mode == "default" else 2) and number > self.asked

    def judge_state(self, world, written, frames, state):
        start = STATES + (STATE_WORDS if written & SECOND else 0)
        words = world.words
        found = words[start + 1 : start + STATE_WORDS].tobytes()[: words[start]]
        if self.mode == "commit":
            assert int(found or b"0") in {self.committed, self.committing}, (found, state)
        elif self.mode == "with_next":
            answers = [frame.payload for frame in frames if frame.opcode == TEXT]
            assert int(found or b"0") == sum(
                self.last_answer(each) in answers for each in range(1, len(self.ends) + 1)
            )
        else:
            assert not found, (found, state)

    def judge_answers(self, frames, state):
        """Nothing was answered twice, out of order, or behind a close frame, beyond what the mode allows."""
        closing = [place for place, frame in enumerate(frames) if frame.opcode == CLOSE]
        assert closing in ([], [len(frames) - 1]), (frames, state)
        answers = [frame.payload for frame in frames if frame.opcode == TEXT]
        due = [text for number in range(1, len(self.ends) + 1) for text in self.due(number)]
        if self.mode == "default" or (self.mode == "with_next" and self.does != "two"):
            assert answers == due[: len(answers)], (answers, state)
            return
        next_due = 0
        for text in answers:
            if text.startswith(b"at "):
                continue
            place = due.index(text)
            assert place <= next_due or self.mode == "commit", (answers, state)
            next_due = place + 1

    def _is_in_doubt(self, world):
        """The client may be told to connect again."""
        given = world.words[GIVEN] & POSITION
        next_given = self.given + 1
        near = {self.ends[number - 1] for number in (self.given, next_given) if 0 < number <= len(self.ends)}
        if self.mode == "default" and given in near:
            return True
        again = given in self.ends and world.dead
        return (
            again
            or world.dead + bool(world.returns) >= MOST_ATTEMPTS
            or world.is_homeless(world.words[BASE])
            or world.unsure
        )

    # Its end

    def judge_return(self, world, base, written, read, state):
        """A living worker has given the connection back."""
        out = world.given_back
        frames, partial = self.frames(out)
        assert not partial, state
        assert written & POSITION == len(out), state
        assert not any(frame.opcode == CLOSE for frame in frames), state
        assert self.asked >= self.given or self.mode in {"with_next", "commit"}, state
        self.judge_base(world, base, frames, state)
        self.judge_state(world, written, frames, state)
        assert read == self.stream[base : world.read], (read, state)

    def served(self, world):
        """Nobody was told to connect again: everything was delivered and answered."""
        frames, partial = self.frames(world.out)
        state = (world.words.tolist(), frames, world.read, world.incoming, self.delivered)
        assert not partial, state
        if self.does in {"rejects", "raises", "other"} and self.resumed:
            code = {"rejects": 1008, "raises": 1011, "other": 1012}[self.does]
            codes = [frame.code for frame in frames if frame.opcode == CLOSE]
            assert codes == [code] or (codes == [1012] and world.leaves), state
            return
        if not (self.closes and self.does == "quiet"):  # else the client may close before they are given
            assert all(self.delivered[1 : len(self.ends) + 1]), state
        answers = [frame.payload for frame in frames if frame.opcode == TEXT]
        due = [text for number in range(1, len(self.ends) + 1) for text in self.due(number)]
        if self.mode == "commit":
            answers += [text for number in range(1, self.committed + 1) for text in self.due(number)]
        assert not set(due) - set(answers), state
        if self.closes or (self.does == "closes" and self.ends and self.mode in MODES[:2]):
            assert frames[-1].opcode == CLOSE, state
            assert frames[-1].code == 1000, state
