"""What the page can have a server do: reload, scale, retire a worker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fdpass._dashboard.control import Silent, asking
from fdpass._dashboard.http import Refused, Request, Response, as_json
from fdpass._dashboard.server import Server
from fdpass.errors import RequestFailed

_PARAMETERS: Mapping[str, Sequence[str]] = {"reload": (), "scale": ("workers",), "retire": ("pid",)}
_LIMIT = 600.0  # seconds: a reload takes as long as the application needs to start, a retirement as its requests


async def act(verb: str, request: Request, servers: Sequence[Server]) -> Response:
    """Have a server do something, and wait for the outcome.

    Args:
        verb: The last part of the path; ``check`` does nothing: the page learns whether its token is right.
        request: The body names the server, and has the verb's whole numbers.
        servers: The servers.

    Raises:
        Refused: The request is wrong.
    """
    if verb == "check":
        return as_json({"ok": True})
    if verb not in _PARAMETERS:
        raise Refused(404, f"there is no action {verb!r}")
    if request.header("content-type").partition(";")[0].strip().lower() != "application/json":
        raise Refused(415, "the body must be application/json")
    body = await request.json()
    server = next((each for each in servers if each.name == body.get("server")), None)
    if server is None:
        raise Refused(404, f"there is no server {body.get('server')!r}")
    arguments = {name: body.get(name) for name in _PARAMETERS[verb]}
    if not all(type(value) is int for value in arguments.values()):
        raise Refused(400, f"{verb} needs {' and '.join(arguments)}, a whole number")
    return await _ask(server, verb, arguments)


async def _ask(server: Server, verb: str, arguments: Mapping[str, Any]) -> Response:
    try:
        async with asking(server.path, _LIMIT) as ask:
            return as_json({"ok": True, **await ask(verb, **arguments)})
    except RequestFailed as error:
        return as_json({"ok": False, "error": str(error)}, 409)
    except Silent as error:
        return as_json({"ok": False, "error": str(error)}, 502)
