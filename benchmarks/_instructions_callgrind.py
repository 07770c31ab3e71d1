"""What callgrind writes, read: the instructions of each C function without those of its callees."""

from __future__ import annotations

import os
import re
from collections import Counter

NAME = re.compile(r"c?fn=\((\d+)\)(?: (.*))?")
OBJECT = re.compile(r"c?ob=\((\d+)\)(?: (.*))?")


def functions(text: str) -> Counter[str]:
    """Instructions by function.

    A name stands in the file once, with a number; later lines have the number alone. The line after ``calls=`` is
    what the callee used, which stands in the callee's own lines as well. A function without a symbol has its
    address as its name; the name of its file comes before it. A recursive function has a second entry, "name'2",
    which is added to the first.
    """
    names, objects = dict[str, str](), dict[str, str]()
    found = Counter[str]()
    place = function = ""
    of_callee = False
    for line in text.splitlines():
        if line[:1] in "0123456789+-*" and line:
            if not of_callee:
                found[function] += int([*line.split(), "0"][1])
            of_callee = False
        elif line.startswith("calls="):
            of_callee = True
        elif match := OBJECT.fullmatch(line):
            named = objects.setdefault(match[1], os.path.basename(match[2] or ""))
            if line.startswith("ob="):
                place = named
        elif match := NAME.fullmatch(line):
            name = names.setdefault(match[1], match[2] or "")
            if line.startswith("fn="):
                function = f"{place}:{name}" if name.startswith("0x") else name.partition("'")[0]
    return found
