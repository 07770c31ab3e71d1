"""Runs a program, and counts the bytecodes and the calls of its Python functions: callgrind sees C functions only.

    python _instructions_python.py FOLDER -m MODULE ... | SCRIPT ...

SIGUSR2 makes it write the counts since the signal before into FOLDER. A resumed coroutine counts as a call.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import sys
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

Key = tuple[str, str]
bytecodes, calls = Counter[Key](), Counter[Key]()
folder = ""


def trace(frame: FrameType, event: str, _: Any) -> Any:
    if event == "opcode":
        bytecodes[frame.f_globals.get("__name__", "?"), frame.f_code.co_qualname] += 1
    elif event == "call":
        calls[frame.f_globals.get("__name__", "?"), frame.f_code.co_qualname] += 1
        frame.f_trace_lines, frame.f_trace_opcodes = False, True
    return trace


def write(*_: Any) -> None:
    sys.settrace(None)
    told = [{".".join(key): count for key, count in each.items()} for each in (bytecodes, calls)]
    new, whole = Path(folder, f"new.{os.getpid()}"), Path(folder, f"counts.{os.getpid()}")
    new.write_text(json.dumps(told))
    new.rename(whole)  # so that a reader finds all of it
    bytecodes.clear()
    calls.clear()
    sys.settrace(trace)


def main() -> None:
    global folder
    _, folder, *words = sys.argv
    while words[0].startswith("-") and words[0] != "-m":
        del words[0]  # an option of the interpreter
    signal.signal(signal.SIGUSR2, write)
    sys.settrace(trace)
    if words[0] == "-m":
        sys.argv = words[1:]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = words
        runpy.run_path(words[0], run_name="__main__")


if __name__ == "__main__":
    main()
