"""``fdpass``, whose dispatchers die after a random line, or a random bytecode, of the code of fdpass.

They do so while there is a file ``dying``, and say in the file ``deaths`` where. The environment has a seed.
"""

import math
import os
import random
import signal
import sys
from pathlib import Path

import fdpass
from fdpass.__main__ import main
from fdpass.serve.kept import Kept

OURS = str(Path(fdpass.__file__).parent)
MOST_LINES = 40_000  # about as many as a dispatcher under load executes in half a second
SEED = os.environ["FDPASS_DEATHS_SEED"]


class Countdown:
    """Counts down with each line or each bytecode, in frames that begin from now on.

    Args:
        number: How many dispatchers have died.
    """

    def __init__(self, number):
        chance = random.Random(f"{SEED} {number}")
        self.event = chance.choice(["line", "opcode"])
        # Every second time as often within the first ten steps as within the last ten thousand, for adoption.
        logarithm = chance.uniform(0, math.log(MOST_LINES))
        self.left = chance.choice([int(math.exp(logarithm)), chance.randrange(MOST_LINES)])

    def entered(self, frame, what, argument):
        if not frame.f_code.co_filename.startswith(OURS):
            return None
        frame.f_trace_opcodes = self.event == "opcode"
        frame.f_trace_lines = not frame.f_trace_opcodes
        return self.stepped

    def stepped(self, frame, what, argument):
        if what == self.event:
            self.left -= 1
            if self.left <= 0:
                sys.settrace(None)
                self.die(frame)
        return self.stepped

    def die(self, frame):
        if not os.path.exists("dying"):
            return
        code = frame.f_code
        place = f"{Path(code.co_filename).name}:{frame.f_lineno} {code.co_qualname}+{frame.f_lasti}"
        with open("deaths", "ab", 0) as file:
            file.write(f"{place}\n".encode())
        os.kill(os.getpid(), signal.SIGKILL)


def dispatch(kept, estate, keeper):
    if os.path.exists("dying"):
        try:
            number = Path("deaths").read_text().count("\n")
        except FileNotFoundError:
            number = 0
        sys._getframe().f_trace_opcodes = True  # before: CPython 3.12 looks at it only in settrace
        sys.settrace(Countdown(number).entered)
    real(kept, estate, keeper)


real, Kept.dispatch = Kept.dispatch, dispatch

if __name__ == "__main__":
    main(prog_name="fdpass")
