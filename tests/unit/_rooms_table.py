"""Makes the table of the server's files in docs/how-it-works.md, from the first line of each file."""

import ast
from pathlib import Path

import fdpass

ROOT = Path(fdpass.__file__).parent
ROOMS = {
    "serve": "the whole",
    "serve/shared": "the contract",
    "serve/keeper": "the keeper",
    "serve/dispatcher": "the dispatcher",
    "serve/dispatcher/accept": "the dispatcher: accepting",
    "serve/dispatcher/pool": "the dispatcher: its workers",
    "serve/operator": "the operator",
    "serve/worker": "a worker",
    "serve/worker/custody": "a worker: custody",
    "serve/worker/http": "a worker: HTTP/1.1",
    "serve/worker/transport": "a worker: transports",
    "serve/worker/live": "a worker: open streams",
    "serve/worker/wsgi": "a worker: WSGI",
    "serve/worker/engines": "a worker: engines",
    "_dashboard": "`fdpass dashboard`",
    "_supervision": "what main processes share",
    "_keep": "`fdpass keep`",
}


def tables():
    """The whole table, as docs/how-it-works.md has it."""
    return "| file | its one job |\n|---|---|\n" + "".join(map(room, ROOMS))


def room(folder):
    """A heading, and a row for each file."""
    rows = [f"| `{path.relative_to(ROOT).as_posix()}` | {job(path)} |\n" for path in files(folder)]
    return f"| **{ROOMS[folder]}** | {job(ROOT / folder / '__init__.py')} |\n" + "".join(rows)


def files(folder):
    return [path for path in sorted((ROOT / folder).glob("*.py")) if path.name != "__init__.py"]


def job(path):
    """The job of a file: the first line of its docstring."""
    return ast.get_docstring(ast.parse(path.read_text())).splitlines()[0].replace("``", "`")
