"""Tables in docs/how-it-works.md that are made from the code: messages, slot, flags, ledger, recovery."""

import inspect
import re
import typing

from fdpass.serve.dispatcher import fates, recovery
from fdpass.serve.keeper import estate
from fdpass.serve.shared import ledger, messages, slots


def described(module):
    """The constants of a module that carry a description: name, value and description."""
    hints = typing.get_type_hints(module, include_extras=True)
    return [(name, getattr(module, name), hint.__metadata__[0]) for name, hint in hints.items()]


def described_members(kind):
    """Name and sentence of each member that the docstring of an enumeration lists."""
    listed = inspect.getdoc(kind).partition("\nAttributes:\n")[2]
    entries = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", listed, re.MULTILINE)
    return [(name, " ".join(text.split())) for name, text in entries]


def table(*rows):
    """A Markdown table; the first row is its head."""
    lines = ["|" + "".join(f" {cell} |" if cell else " |" for cell in row) + "\n" for row in rows]
    return lines[0] + "|---" * len(rows[0]) + "|\n" + "".join(lines[1:])


def message_table():
    rows = [
        (f"`{byte.decode()}`", name, kind.sender, kind.content, kind.descriptors)
        for name, byte, kind in described(messages)
    ]
    return table(("byte", "message", "from", "content", "descriptors"), *rows)


def slot_table():
    return table(("word", "content"), *((name, text) for name, _, text in described(slots)))


def flag_table():
    return table(("flag", "meaning"), *described_members(slots.Flag))


def column_table(words=ledger.Column, name="column"):
    rows = ((word.name, word.writer, word.meaning) for word in words)
    return table((name, "written by", "content"), *rows)


def member_table(kind, name):
    return table((name, "meaning"), *described_members(kind))


def stores(module=slots):
    """The order of stores, as a module's docstring has it."""
    text = inspect.cleandoc(module.__doc__)
    return text[text.index("**The order of stores.**") :] + "\n"


def recovery_table(number=0, module=recovery):
    """A table in a module's docstring; a row begins where its last column names an action."""
    text = module.__doc__.splitlines()
    rules = [index for index, line in enumerate(text) if line.startswith("===")]
    first, second, last = rules[3 * number : 3 * number + 3]
    bounds = [match.start() for match in re.finditer("=+", text[first])]
    slices = [slice(start, stop) for start, stop in zip(bounds, [*bounds[1:], None], strict=True)]
    rows = [tuple(line[part].strip() for part in slices) for line in text[first + 1 : first + 2]]
    for line in text[second + 1 : last]:
        cells = tuple(line[part].strip() for part in slices)
        if cells[-1][:1].isupper() or cells[-1].startswith("as in"):
            rows.append(cells)
        else:
            rows[-1] = tuple(f"{before} {more}".strip() for before, more in zip(rows[-1], cells, strict=True))
    return table(*rows)


def action_table():
    return table(("action", "meaning"), *described_members(recovery.Action))


MADE = {
    "the messages": message_table,
    "the words of a slot": slot_table,
    "the flags of a slot": flag_table,
    "the order of stores": stores,
    "the columns of the ledger": column_table,
    "the rows of recovery": recovery_table,
    "the rows of recovery for open streams": lambda: recovery_table(1),
    "the actions of recovery": action_table,
    "the words of the estate": lambda: column_table(estate.Head, "word"),
    "the words of a worker in the estate": lambda: column_table(estate.Row, "word"),
    "the order of stores in the estate": lambda: stores(estate),
    "the stages of a worker": lambda: member_table(estate.Stage, "STATE"),
    "the marks of a worker": lambda: member_table(estate.Mark, "FLAGS"),
    "the values of HOLDER": lambda: member_table(ledger.Holder, "HOLDER"),
    "the values of JOURNAL": lambda: member_table(estate.Journal, "JOURNAL"),
    "what a new dispatcher does at once": lambda: recovery_table(0, fates),
    "what a new dispatcher does after SYNCED": lambda: recovery_table(1, fates),
    "the fates": lambda: member_table(fates.Fate, "fate"),
}
"""What docs/how-it-works.md has from the code, and the function that makes it."""
