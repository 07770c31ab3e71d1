"""`needs_keeper`: a mark for tests of a server with a keeper."""

import subprocess
import sys

import pytest

# In a process of its own: one of pytest-xdist has threads, and cannot be cloned.
_CODE = "from fdpass.serve.keeper.clone import why_not; print(why_not())"
_WHY_NOT = subprocess.run([sys.executable, "-c", _CODE], capture_output=True, text=True, check=True).stdout.strip()

needs_keeper = pytest.mark.skipif(bool(_WHY_NOT), reason=_WHY_NOT or "never")
