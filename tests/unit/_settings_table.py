"""The table of settings in docs/reference.md, made from the fields of `Config`."""

import dataclasses

from fdpass.serve.shared.config import SETTINGS, Config

HEAD = "| setting | default | values | what it is | changed by |\n|---|---|---|---|---|\n"
UNITS = {"seconds": " seconds", "size": " bytes"}
WORDS = {
    "path": "path",
    "account": "name or number",
    "switch": "`True`, `False`",
    "addresses": "one or more addresses",
    "prefixes": "paths",
    "texts": "texts",
    "headers": "`NAME:VALUE` each",
}


def table():
    """The whole table, as it stands in the text."""
    return HEAD + "".join(row(Config.__dataclass_fields__[name]) for name in SETTINGS)


def row(field):
    """The line of a setting."""
    setting = SETTINGS[field.name]
    cells = f"`{field.name}`", default(field, setting.shown), values(setting), setting.help, changed_by(setting)
    return f"| {' | '.join(cells)} |\n"


def default(field, shown):
    """The value as Python writes it, if it is a constant, and its explanation, if there is one."""
    if field.default is dataclasses.MISSING:
        return shown
    return f"`{field.default!r}`" + (f": {shown}" if shown else "")


def values(setting):
    """The allowed values: the choices, the bounds, or what the kind allows."""
    if setting.choices:
        return ", ".join(f"`{choice}`" for choice in setting.choices)
    if setting.bounds:
        least, most = setting.bounds
        return f"{least:,} to {power(most)}{UNITS.get(setting.kind, '')}"
    return f"`{setting.metavar}`" if setting.kind == "text" else WORDS[setting.kind]


def changed_by(setting):
    """What makes a running server take a new value."""
    return "restart" if setting.fixed else "reload"


def power(number):
    """A number; a large power of two, or one less than it, as a power."""
    for less in (0, 1):
        exponent = number.bit_length() - 1 + less
        if number == 2**exponent - less and exponent > 20:
            return f"2^{exponent}" + (f" - {less}" if less else "")
    return f"{number:,}"
