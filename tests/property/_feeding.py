"""How `HttpCustody` feeds a parser by what `RequestEnd` says, and what has to hold then."""

from enum import Enum

from fdpass.serve.worker.custody.request_end import RequestEnd

from ._parsers import H11, Ours
from ._streams import pieces


class Answers(Enum):
    """When the application answers."""

    EARLY = 0  # at the end of the head
    PROMPT = 1  # at the end of the request
    LATE = 2  # after more has come


class Disagreement(AssertionError):
    """`RequestEnd` and a parser do not agree, or `RequestEnd` not with itself."""


def borders(data, cuts=()):
    """Where requests end in it, and whether the rest is opaque."""
    border, found, position = RequestEnd(), [], 0
    for piece in pieces(data, cuts):
        rest = piece
        while rest:
            used = border.feed(rest)
            position += used
            if not 0 < used <= len(rest) or (used < len(rest) and not border.complete):
                raise Disagreement(f"{used} of {len(rest)} bytes used, complete: {border.complete}")
            rest = rest[used:]
            if border.complete and not border.blank:
                if border.opaque:
                    raise Disagreement("complete, and opaque")
                found.append(position)
    return found, border.opaque


class Feeding:
    """A model of `HttpCustody`: one request at a time, and the next one once the last is over.

    Attributes:
        claims: Where `RequestEnd` said that a request was complete.
    """

    def __init__(self, parser, answers):
        self.parser = parser
        self.border = RequestEnd()
        self.claims = []
        self._answers = answers
        self._held = b""
        self._begun = self._done = False
        self._started = self._answered = 0

    def run(self, data, cuts):
        self._rest = len(data)
        for piece in pieces(data, cuts):
            self._rest -= len(piece)
            due = self._answers == Answers.LATE and self._started > self._answered
            self._read(piece)
            if due and not self.parser.over:
                self._respond()
            self._work(self._answers)
        self._work(Answers.PROMPT)
        return self

    def _read(self, data):
        if self._held or (self._done and self.border.complete):
            self._held += data
        else:
            self._feed(data)

    def _feed(self, data):
        if self._begun and self.border.complete:
            self._held = data
            return
        self._begun = True
        used = self.border.feed(data)
        self._held = data[used:]
        self._begun = not self.border.blank
        self._say(data[:used], complete=self.border.complete and self._begun)
        if self._done:
            self._commit()

    def _say(self, data, *, complete):
        """To the parser, and hear whether it agrees."""
        parser = self.parser
        parser.feed(data)
        if self.border.opaque:
            return
        if parser.taken:
            raise Disagreement(f"{parser.name}: another protocol has it from {parser.fed} on")
        if complete:
            self.claims.append(parser.fed)
        waits = complete and not parser.over and (parser.waits or parser.ended < len(self.claims))
        if waits or parser.ended > len(self.claims):
            raise Disagreement(
                f"{parser.name}: at {parser.fed} it has ended {parser.ended} requests"
                f"{' and waits' if waits else ''}, RequestEnd {len(self.claims)}"
            )

    def _work(self, answers):
        """The application's turn."""
        parser = self.parser
        while not parser.over:
            if self._started > self._answered:
                if answers == Answers.LATE or (answers == Answers.PROMPT and parser.ended < self._started):
                    return
                if not (self._rest or self._held or parser.waits):
                    return  # the answer changes nothing
                self._respond()
            elif self._started < parser.called:
                self._started += 1
                if self._done or not self._begun:
                    self.border.opaque = True
                    self._commit()
                    self._begun = True
            elif self._held and not self._begun:
                held, self._held = self._held, b""
                self._feed(held)
            else:
                return

    def _respond(self):
        self._answered += 1
        self.parser.answer()
        self._done = True
        self._commit()

    def _commit(self):
        if self.border.opaque or self.border.complete:
            self._done = self._begun = False


def check(data, cuts, answers):
    """Raise a `Disagreement` if there is one.

    Returns:
        How many requests of the stream `RequestEnd` told the ends of.
    """
    whole = borders(data)
    if (cut := borders(data, cuts)) != whole:
        raise Disagreement(f"cut at {cuts}, requests end at {cut}, else at {whole}")
    claims, opaque = whole
    for make in (Ours, H11):
        feeding = Feeding(make(), answers).run(data, cuts)
        if feeding.claims != claims[: len(feeding.claims)]:
            raise Disagreement(f"fed as HttpCustody does, requests end at {feeding.claims}, else at {claims}")
    ends = ends_by_httptools(data)
    for claim, end in zip(claims, ends, strict=False):
        if claim != end:
            raise Disagreement(f"httptools: a request ends at {end}, RequestEnd says {claim}")
    if len(ends) > len(claims):
        end = ends[len(claims)]
        if not (opaque and borders(data[:end])[1]):
            raise Disagreement(f"httptools: a request ends at {end}, where RequestEnd waits")
    return len(claims)


def ends_by_httptools(data):
    """Where requests end for it, exactly: it is fed byte by byte."""
    parser = Ours()
    for position in range(len(data)):
        parser.feed(data[position : position + 1])
        if parser.over:
            break
    return parser.ends
