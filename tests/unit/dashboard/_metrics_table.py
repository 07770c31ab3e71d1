"""The table of metrics in docs/dashboard.md, made from the families."""

from fdpass._dashboard.families import families
from fdpass._dashboard.state import state_of

from ._statuses import status

HEAD = "| metric | type | labels | meaning |\n|---|---|---|---|\n"


def table():
    """The whole table, as it stands in the text."""
    found = status()
    return HEAD + "".join(map(row, families([("shop", state_of(found), found)])))


def row(family):
    name = f"{family.name}_total" if family.type == "counter" else family.name
    labels = ", ".join(f"`{label}`" for label in family.samples[0].labels if label not in {"server", "le"})
    return f"| `{name}` | {family.type} | {labels} | {family.documentation} |\n"
