"""The layout of the *estate*: the memory in which a dispatcher leaves all that it has to the next one. Pure.

Keeper and dispatcher share one table of descriptors (see `clone`), so that the table outlives the dispatcher. The
estate says what each descriptor is, and who has it. Only keeper and dispatcher map this memory; the ledger and the
slots, which workers map too, are two of its descriptors.

A descriptor is stored as its number plus 1, so that 0 is none. A descriptor that no word names is nobody's: the
next dispatcher takes it for a connection that was accepted a moment ago, or closes it.

**The order of stores.** A dispatcher can die between any two steps, and after each step the estate is true. *K*
marks what the kernel does, *L* a word of the ledger, and *S* a word of the connection's slot.

1. A connection is accepted. K: accept(2). OWNER is HELD; L: HOLDER is 0. S: all words are 0. NUMBER.
2. It is handed to a worker. OWNER is the worker. K: the message is sent. If it is not, OWNER is HELD again.
3. A connection comes back: its worker returns it, or has not read the message. A slot that another worker needs
   otherwise is prepared as in step 5. OWNER is HELD; L: HOLDER is 0.
4. A connection ends. L: SEEN, if the ring has it. OWNER is FREE; FINISHED or LOST; NUMBER is 0. K: the descriptor
   is closed. If the dispatcher ends the connection, K does so (a reset, a 502, a shutdown) before all of these,
   and NUMBER is 0 before OWNER is FREE.
5. A slot is prepared for the next worker. JOURNAL is 0, if it has bytes of another request. The bytes that the
   next worker needs are written to the replays; BASE, WRITTEN, ATTEMPT, UNSENT; JOURNAL is DECIDED, with the
   number of bytes. S: the slot. JOURNAL is PREPARED, with the number of bytes. Then step 3. If JOURNAL is DECIDED,
   the next dispatcher prepares the slot again.
6. A worker is started. K: its channel, its buffers, its process. The words of its row; STATE is STARTING. K: SETUP
   is sent. SETUP in its row.
7. A worker has ended. Its connections are decided about. STATE is GONE. K: its descriptors are closed.
8. Without custody, step 2 goes on once the message is sent: K: the descriptor is closed. NUMBER is 0. Before the
   next dispatcher opens anything, it forgets each NUMBER whose descriptor is not open. If a connection is read out
   of a worker's channel again, NUMBER is stored before OWNER is HELD.
9. If workers accept: L: HOLDER is 0. OWNER is the offer to a worker. K: TURN is sent. The worker accepts a
   connection, stores TAKEN in HOLDER, and sends ACCEPTED. OWNER is the worker, or FREE if the slot was not used.

The worker stores HOLDER (L) *before* it reports; so a report that a dead dispatcher had read, and not acted on,
is not lost. If it gives a connection back, it leaves the slot and the bytes in its buffer as they are until
HOLDER has changed: the dispatcher may die with MOVED, in which it has read the bytes. HOLDER has an *epoch*: the
serial number of the dispatcher to which the worker last said SYNCED. A new dispatcher sends SYNC with its own
serial number; the worker sends all reports that wait, changes its epoch, and sends SYNCED. Then the new
dispatcher reads the ring, and looks at HOLDER of each connection of the worker. 0: the worker never got it.
TAKEN: the worker has it. Any other with an older epoch: the dead dispatcher had read the report, and the new one
acts on it now. Any other with the present epoch: the report is still to come.
"""

from __future__ import annotations

import mmap
from enum import IntEnum, IntFlag
from typing import Any, Self

from fdpass.serve.keeper.texts import TEXTS_SIZE, Texts
from fdpass.serve.shared.described import Described
from fdpass.serve.shared.ledger import MOST_WORKERS

VERSION = 1
"""Number of this layout."""

MOST_LISTENERS = 64
"""The most listeners that a server can have."""

STATUSES = 512
"""How many statuses of ended processes the estate has room for; a later one takes the place of the oldest."""


class Head(Described):
    """The words of the server as a whole.

    Attributes:
        writer: The process that stores the word.
        meaning: What the word holds.
    """

    VERSION = 0, "keeper", "number of the layout"
    MOST = 1, "keeper", "how many connections can live at once"
    HIGH = 2, "dispatcher", "all slots that were ever used are below this one"
    SERIAL = 3, "dispatcher", "how many dispatchers there were: the serial number of this one"
    FINISHED = 4, "dispatcher", "connections that have finished, ever"
    LOST = 5, "dispatcher", "connections that were lost, ever"
    HANDED = 6, "dispatcher", "how many times a connection was handed to a worker"
    REHANDED = 7, "dispatcher", "how many times a connection came back"
    LEDGER = 8, "dispatcher", "descriptor of the ledger"
    SLOTS = 9, "dispatcher", "descriptor of the slots"
    PAGES = 10, "dispatcher", "descriptor of the pages"
    REPLAYS = 11, "dispatcher", "descriptor of the bytes that are handed on with connections"
    GENERATIONS = 12, "dispatcher", "descriptor of a memfd: what the generations are, as JSON"
    CONTROL = 13, "keeper", "descriptor of the control socket"
    KEEPER = 14, "keeper", "its process number"
    DISPATCHERS = 15, "keeper", "how many dispatchers it has made"
    BEAT = 16, "dispatcher", "monotonic clock in ns, ten times a second"
    SERVED = 17, "dispatcher", "SERIAL of the last dispatcher that served"
    STOPPED = 18, "dispatcher", "1 = the server has stopped, and needs no dispatcher any more"
    FAILURE = 19, "dispatcher", "descriptor of a memfd: why no worker can be started"
    REAPED = 20, "keeper", "how many statuses of ended processes it has stored, ever"
    LISTENERS = 21, "keeper", "how many listeners there are"
    STARTED = 22, "dispatcher", "1 = a worker has been ready: a start that fails no longer ends the server"
    NOTICES = 23, "keeper", "descriptor of a socket: the dispatcher writes notifications to the service manager"
    NOTICES_END = 24, "keeper", "descriptor of its other end, which the keeper reads"
    ACCESS_LOG = 25, "keeper", "descriptor of the access log that it has opened, until the generations have it"
    TOTALS = 26, "dispatcher", "descriptor of a memfd: what was counted of workers that have ended, as JSON"
    RECEIVED = 27, "dispatcher", "bytes received on connections that have ended"
    SENT = 28, "dispatcher", "likewise: sent"
    STOPS = 32, "keeper", "how often a stop was requested, ever; the next word: how often it was done"
    RELOADS = 34, "keeper", "likewise: a reload"
    REOPENS = 36, "keeper", "likewise: to open the access logs again"
    MORE = 38, "keeper", "likewise: one worker more"
    FEWER = 40, "keeper", "likewise: one worker less"
    ASKED = 42, "dispatcher", "number of the last upgrade that a client asked for; `Text.REQUEST` says what it is"
    ANSWERED = 43, "keeper", "number of the last upgrade that has ended; `Text.OUTCOME` says how"
    UPGRADING = 44, "keeper", "number of the upgrade in progress; 0 = none is"
    QUIESCE = 45, "keeper", "1 = the dispatcher ends now, between two steps: another one takes over"
    QUIESCED = 46, "dispatcher", "when it did so, on the monotonic clock, in ns"
    SERVES = 47, "dispatcher", "when the present dispatcher began to accept, likewise"
    OUTCOMES = (
        48,
        "dispatcher",
        "with the next words, in the order of `recovery.Action`: with how many connections of workers it was done",
    )
    RESUMED = 56, "dispatcher", "how many times an open stream was handed to another worker"
    TOLD = 57, "dispatcher", "WebSockets whose clients were told to connect again by workers that have ended"
    MAKING = 58, "keeper", "how often it has asked a template for a dispatcher"
    MADE = 59, "template's dispatcher", "its process number, plus 2**32 times MAKING"
    ALLOWED = 60, "keeper", "process number of the template's dispatcher that may begin"
    TEMPLATE = 61, "template", "its process number, once it can make dispatchers"
    CHECK = 62, "keeper", "descriptor of a memfd: what the new interpreter has printed that checks the new code"
    TAKEN = 63, "keeper", "ASKED, once the keeper has read the request"
    LISTENER = 64, "keeper", "descriptor of the first listener; those of the others follow"


class Row(Described):
    """The words of a worker.

    Attributes:
        writer: The process that stores the word.
        meaning: What the word holds.
    """

    STATE = 0, "dispatcher", "0 = there is no worker; else see `Stage`: stored last, and cleared first"
    PID = 1, "dispatcher", "its process number"
    PIDFD = 2, "dispatcher", "descriptor of its process"
    CHANNEL = 3, "dispatcher", "descriptor of the dispatcher's end of its channel"
    WORKER_END = 4, "dispatcher", "descriptor of the worker's end of its channel"
    BUFFERS = 5, "dispatcher", "descriptor of its receive buffers; 0 without custody"
    GENERATION = 6, "dispatcher", "number of its generation"
    FLAGS = 7, "dispatcher", "see `Mark`"
    STARTED = 8, "dispatcher", "when it was started, on the monotonic clock, in ns"
    DEADLINE = 9, "dispatcher", "when it is killed if it has not ended, likewise; 0 = never"


_DESCRIPTORS = (
    *(Head.LEDGER, Head.SLOTS, Head.PAGES, Head.REPLAYS, Head.GENERATIONS, Head.CONTROL, Head.FAILURE),
    *(Head.CHECK, Head.NOTICES, Head.NOTICES_END, Head.ACCESS_LOG, Head.TOTALS),
)

ROW_WORDS = 16
"""Number of words of a worker."""

HEAD_WORDS = 128
"""Number of words of the server as a whole."""

FREE, HELD = 0, 1
"""Values of OWNER: no connection is in the slot; the dispatcher has it."""

_WORKERS = 2


class Stage(IntEnum):
    """Values of STATE of a worker.

    Attributes:
        GONE: There is no worker in the row.
        STARTING: Its process was started.
        READY: It can serve.
        RETIRING: It finishes its work, and exits.
    """

    GONE = 0
    STARTING = 1
    READY = 2
    RETIRING = 3


class Mark(IntFlag):
    """Values of FLAGS of a worker.

    Attributes:
        TO_RETIRE: It retires as soon as another worker is ready in its place.
        ACTIVE: It gets connections.
        WAS_READY: It has been ready.
        ABORTED: SIGABRT has been sent.
        SET_UP: SETUP has been sent.
    """

    TO_RETIRE = 1
    ACTIVE = 2
    WAS_READY = 4
    ABORTED = 8
    SET_UP = 16


class Journal(IntEnum):
    """Values of JOURNAL in its lowest byte; the number of bytes in the replays is above it.

    Attributes:
        EMPTY: Nothing was handed on with the connection.
        DECIDED: The next worker gets the slot that the journal describes: it may not be prepared yet.
        PREPARED: The slot is prepared, and the bytes are kept until the next worker has moved BASE beyond them.
    """

    EMPTY = 0
    DECIDED = 1
    PREPARED = 2


def owned_by(row: int) -> int:
    """OWNER of a connection that the worker in this row has."""
    return _WORKERS + row


def row_of(owner: int) -> int:
    """The row of the worker that has a connection, of whose OWNER `owned_by` is the value; else below 0."""
    return owner - _WORKERS


def offered_to(row: int) -> int:
    """OWNER of a slot for a connection that the worker in this row may accept."""
    return -1 - row


def size_for(most: int) -> int:
    """Bytes of an estate for so many connections. The kernel allocates each page at its first write."""
    return TEXTS_SIZE + 8 * (HEAD_WORDS + 2 * STATUSES + MOST_WORKERS * ROW_WORDS + 5 * most + most)


class Estate:
    """Views of all parts of the estate.

    Args:
        buffer: Writable, of `size_for` bytes. Lent: call `release` before closing it.

    Attributes:
        most: How many connections can live at once.
        head: The words of the server as a whole: see `Head`.
        statuses: Of ended processes that were no children of the dispatcher: process number, and status.
        rows: The words of all workers: see `Row`.
        texts: The texts of an upgrade.
        journal: JOURNAL of each slot.
        base: BASE of each slot, as the journal has it; likewise WRITTEN, ATTEMPT and UNSENT (see `recovery`).
        owners: OWNER of each slot.
        numbers: NUMBER of each slot.

    Raises:
        ValueError: The buffer is no estate of this layout.
    """

    def __init__(self, buffer: Any) -> None:
        words = memoryview(buffer).cast("q")
        version, most = words[Head.VERSION], words[Head.MOST]
        if version != VERSION or words.nbytes != size_for(most):
            raise ValueError(f"an estate of layout {VERSION} was expected, not {version}")
        self.most, self._words = most, words
        self.head = words[:HEAD_WORDS]
        start = HEAD_WORDS + 2 * STATUSES
        self.statuses = words[HEAD_WORDS:start]
        self.rows = words[start : start + MOST_WORKERS * ROW_WORDS]
        start += MOST_WORKERS * ROW_WORDS
        self.texts = Texts(words[start : start + TEXTS_SIZE // 8])
        start += TEXTS_SIZE // 8
        self.journal, self.base, self.written, self.attempt, self.unsent = (
            words[start + index * most : start + (index + 1) * most] for index in range(5)
        )
        ints = words[start + 5 * most :].cast("B").cast("i")
        self.owners, self.numbers = ints[:most], ints[most:]
        self._ints = ints

    @classmethod
    def fresh(cls, buffer: Any, most: int) -> Self:
        """Make a new estate in a buffer of zeros."""
        words = memoryview(buffer).cast("q")
        words[Head.MOST] = most
        words[Head.VERSION] = VERSION
        words.release()
        return cls(buffer)

    @classmethod
    def private(cls, most: int) -> Self:
        """Make a new estate in memory of this process alone: no dispatcher adopts it."""
        return cls.fresh(mmap.mmap(-1, size_for(most)), most)

    def row(self, row: int) -> memoryview:
        """Return the words of one worker."""
        return self.rows[row * ROW_WORDS : (row + 1) * ROW_WORDS]

    def stages(self) -> dict[int, int]:
        """The row and the STATE of each worker."""
        return {row: stage for row, stage in enumerate(self.rows[Row.STATE :: ROW_WORDS].tolist()) if stage}

    def take_fd(self, word: int) -> int:
        """The descriptor that a word of the head names; below 0 if it names none."""
        return self.head[word] - 1

    def named(self) -> set[int]:
        """All descriptors that words of the estate name, those of connections included."""
        head = self.head.tolist()
        words = [head[word] for word in _DESCRIPTORS]
        words += head[Head.LISTENER : Head.LISTENER + head[Head.LISTENERS]]
        for row in self.stages():
            of = self.row(row)
            words += [of[word] for word in (Row.PIDFD, Row.CHANNEL, Row.WORKER_END, Row.BUFFERS)]
        words += self.numbers[: head[Head.HIGH]].tolist()
        return {word - 1 for word in words if word}

    def note_status(self, pid: int, status: int) -> None:
        """The keeper has reaped a process: store its status, as of wait(2)."""
        count = self.head[Head.REAPED]
        place = 2 * (count % STATUSES)
        self.statuses[place] = 0
        self.statuses[place + 1] = status
        self.statuses[place] = pid
        self.head[Head.REAPED] = count + 1

    def status_of(self, pid: int) -> int | None:
        """The status of a process that the keeper has reaped; None if it has not."""
        pids = self.statuses[::2].tolist()
        return self.statuses[2 * pids.index(pid) + 1] if pid in pids else None

    def release(self) -> None:
        """Release the views, so that the memory can be unmapped."""
        self.texts.view.release()
        for view in vars(self).values():
            if isinstance(view, memoryview):
                view.release()
