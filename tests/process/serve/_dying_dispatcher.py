"""``python _dying_dispatcher.py COUNT serve ...``: as ``fdpass``, but each dispatcher dies after a random line.

A trace function counts the lines that a dispatcher runs in ``fdpass/serve``, and kills it after a random number of
them. So it dies between any two stores. After COUNT deaths dispatchers live on.
"""

import os
import random
import signal
import sys

from fdpass.serve import kept

LEFT = int(sys.argv.pop(1))
MOST_LINES = 12_000
FOLDER = os.path.dirname(kept.__file__)
_dispatch = kept.Kept.dispatch


def dispatch(self, estate, keeper):
    # The keeper's own count of dispatchers is the only one that outlives them.
    if estate.head[kept.Head.SERVED] and estate.head[kept.Head.DISPATCHERS] < LEFT:
        left = random.Random(estate.head[kept.Head.DISPATCHERS]).randrange(MOST_LINES)

        def on_line(frame, event, _):
            nonlocal left
            if event == "line":
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
            return on_line

        def on_call(frame, event, _):
            return on_line if frame.f_code.co_filename.startswith(FOLDER) else None

        sys.settrace(on_call)
    _dispatch(self, estate, keeper)


if __name__ == "__main__":
    from fdpass._cli import main

    kept.Kept.dispatch = dispatch
    main(prog_name="fdpass")
