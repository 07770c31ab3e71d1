"""`App`: the ASGI application of the dashboard: which path gets which response."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from fdpass._dashboard import actions, checks
from fdpass._dashboard.gate import Gate
from fdpass._dashboard.http import Receive, Refused, Request, Response, Scope, Send, as_json
from fdpass._dashboard.metrics import Metrics
from fdpass._dashboard.page import page
from fdpass._dashboard.server import Server
from fdpass._dashboard.stream import Streams
from fdpass._dashboard.watch import Watch

_Route = Callable[[Request], Awaitable[Response]]
_ACTIONS = "/actions/"


class App:
    """Answers requests.

    Args:
        watch: The servers, and what they have answered.
        gate: Which requests are answered.
    """

    def __init__(self, watch: Watch, gate: Gate) -> None:
        self._watch = watch
        self._gate = gate
        self._page = page()
        self._streams = Streams(watch)
        self._metrics = Metrics(watch.servers)
        self._routes: dict[str, _Route] = {
            "/": self._show_page,
            "/metrics": self._show_metrics,
            "/livez": self._livez,
            "/readyz": self._readyz,
            "/status.json": self._status,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        try:
            self._gate.check_host(request)
            if request.path == "/events" and request.method == "GET":
                await self._streams.send_to(receive, send)
                return
            response = await self._response(request)
        except Refused as refused:
            headers = {"allow": refused.allow} if refused.allow else {}
            response = as_json({"ok": False, "error": str(refused)}, refused.status, **headers)
        await response.send(send, head_only=request.method == "HEAD")

    async def _response(self, request: Request) -> Response:
        if request.path.startswith(_ACTIONS):
            if request.method != "POST":
                raise Refused(405, "an action is a POST", "POST")
            self._gate.check_token(request)
            return await actions.act(request.path.removeprefix(_ACTIONS), request, self._watch.servers)
        route = self._routes.get(request.path)
        if route is None:
            raise Refused(404, f"the dashboard has {', '.join(self._routes)}")
        if request.method not in {"GET", "HEAD"}:
            raise Refused(405, "only GET and HEAD", "GET, HEAD")
        return await route(request)

    async def _show_page(self, _: Request) -> Response:
        return self._page

    async def _show_metrics(self, request: Request) -> Response:
        snapshot = await self._watch.latest()
        return self._metrics.response(snapshot.number, request.header("accept"))

    async def _status(self, _: Request) -> Response:
        return Response((await self._watch.latest()).json, "application/json")

    async def _livez(self, request: Request) -> Response:
        return checks.livez(await self._servers(request))

    async def _readyz(self, request: Request) -> Response:
        return checks.readyz(await self._servers(request))

    async def _servers(self, request: Request) -> Sequence[Server]:
        """The servers that a check asks for: all, or the one that ``?server=NAME`` names."""
        await self._watch.latest()
        name = request.parameter("server")
        found = [server for server in self._watch.servers if name in {"", server.name}]
        if not found:
            raise Refused(404, f"there is no server {name!r}")
        return found
