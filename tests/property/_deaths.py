"""`Death`: makes the dispatcher's code die at its Nth store or call, as a `kill -9` would do it.

What code does in ``finally`` and ``except`` after that is undone: `Death` calls ``freeze`` at the moment of death,
and the test restores what it has frozen.
"""

import dis
import sys
from pathlib import Path

import pytest

import fdpass

_SERVE = Path(fdpass.__file__).parent / "serve"
FOLDERS = tuple(str(_SERVE / folder) for folder in ("dispatcher", "keeper", "shared/ledger.py"))
_STEPS = {"STORE_SUBSCR", "STORE_SLICE", "CALL", "CALL_KW", "CALL_FUNCTION_EX", "PRECALL"}
_PLACES = {}  # of each code object, the offsets of the instructions that are steps

each_step_is_seen = pytest.mark.skipif(
    sys.version_info >= (3, 13), reason="CPython 3.13 does not report every instruction to sys.settrace"
)


class Died(BaseException):
    """The dispatcher is dead."""


class Death:
    """Counts the steps of the dispatcher's code within a ``with`` block, and ends it at one of them.

    Args:
        step: The number of the step before which it dies, from 1; 0 only counts.
        freeze: Called at the death.
        within: Only steps of functions with these names count; of all functions, if it is empty.

    Attributes:
        steps: How many steps there were.
        died: It has died.
    """

    def __init__(self, step=0, freeze=lambda: None, within=()):
        self._within = within
        self._step = step
        self._freeze = freeze
        self.steps = 0
        self.died = False

    def __enter__(self):
        sys._getframe().f_trace_opcodes = True  # before: CPython 3.12 looks at it only in settrace
        sys.settrace(self._call)
        return self

    def __exit__(self, kind, error, trace):
        sys.settrace(None)
        return kind is Died

    def _call(self, frame, event, argument):
        code = frame.f_code
        if not code.co_filename.startswith(FOLDERS) or (self._within and code.co_name not in self._within):
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        return self._trace

    def _trace(self, frame, event, argument):
        if event == "opcode" and not self.died and frame.f_lasti in self._steps_of(frame.f_code):
            self.steps += 1
            if self.steps == self._step:
                self.died = True
                self._freeze()
                raise Died
        return self._trace

    @staticmethod
    def _steps_of(code):
        if code not in _PLACES:
            _PLACES[code] = {each.offset for each in dis.get_instructions(code) if each.opname in _STEPS}
        return _PLACES[code]
