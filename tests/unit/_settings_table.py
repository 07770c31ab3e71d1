"""The table of settings in docs/reference.md, made from the fields of `Config`."""

import dataclasses

from fdpass.serve.shared.config import SETTINGS, Config

HEAD = "| setting | default | values | what it is |\n|---|---|---|---|\n"
UNITS = {"seconds": " seconds", "size": " bytes"}
WORDS = {
    "path": "path",
    "account": "name or number",
    "switch": "`True`, `False`",
    "addresses": "one or more addresses",
}


def table():
    """The whole table, as it stands in the text."""
    return HEAD + "".join(row(field) for field in dataclasses.fields(Config))


def row(field):
    """The line of a setting."""
    setting = SETTINGS[field.name]
    return f"| `{field.name}` | {default(field, setting.shown)} | {values(setting)} | {setting.help} |\n"


def default(field, shown):
    """In words if there are any; the value as Python writes it, if there is one."""
    if field.default is dataclasses.MISSING:
        return shown
    return f"`{field.default!r}`" + (f": {shown}" if shown else "")


def values(setting):
    """What it can be: one of these, a number between these, or what its kind says."""
    if setting.choices:
        return ", ".join(f"`{choice}`" for choice in setting.choices)
    if setting.bounds:
        least, most = setting.bounds
        return f"{least:,} to {power(most)}{UNITS.get(setting.kind, '')}"
    return f"`{setting.metavar}`" if setting.kind == "text" else WORDS[setting.kind]


def power(number):
    """A number, or a great power of two as one; one less than a power likewise."""
    for less in (0, 1):
        exponent = number.bit_length() - 1 + less
        if number == 2**exponent - less and exponent > 20:
            return f"2^{exponent}" + (f" - {less}" if less else "")
    return f"{number:,}"
