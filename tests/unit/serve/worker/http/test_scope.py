"""The scope: its keys, for every form of a request line and of header fields."""

import pytest

from ._apps import Echo

EACH_KIND = True
REFUSED = b"Invalid HTTP request received."
TARGETS = {
    "root": (b"/", "/", b"/", b""),
    "query": (b"/a/b?x=1&y=%20", "/a/b", b"/a/b", b"x=1&y=%20"),
    "empty query": (b"/a?", "/a", b"/a", b""),
    "question mark in the query": (b"/?a?b", "/", b"/", b"a?b"),
    "fragment": (b"/a#part", "/a", b"/a", b""),
    "fragment behind a query": (b"/a?b#part", "/a", b"/a", b"b"),
    "utf-8": (b"/caf%C3%A9", "/caf\u00e9", b"/caf%C3%A9", b""),
    "no utf-8": (b"/%FF", "/\ufffd", b"/%FF", b""),
    "a slash in percent": (b"/%2F", "//", b"/%2F", b""),
    "a NUL in percent": (b"/%00", "/\0", b"/%00", b""),
    "space and percent": (b"/%20%25", "/ %", b"/%20%25", b""),
    "no percent-encoding": (b"/%zz%", "/%zz%", b"/%zz%", b""),
    "plus": (b"/a+b", "/a+b", b"/a+b", b""),
    "parameters": (b"/a;b=c", "/a;b=c", b"/a;b=c", b""),
    "dots stay": (b"/a//b/../c/./", "/a//b/../c/./", b"/a//b/../c/./", b""),
    "two slashes": (b"//x/y", "//x/y", b"//x/y", b""),
    "what no URL has": (b'/"<>`|^{}', '/"<>`|^{}', b'/"<>`|^{}', b""),
    "absolute": (b"http://x/path?q", "/path", b"/path", b"q"),
    "absolute, another scheme": (b"ftp://x/y", "/y", b"/y", b""),
    "absolute, with a port": (b"http://[::1]:80/p", "/p", b"/p", b""),
}
NONE = {
    "no slash": b"a",
    "query alone": b"?x",
    "space": b"/a b",
    "tab": b"/a\tb",
    "DEL": b"/\x7f",
    "absolute without a host": b"http:///p",
    "absolute with no port": b"http://x:99999/p",
    "authority": b"x:443",
}
METHODS = [
    *(b"GET", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"TRACE", b"PATCH", b"PURGE", b"REPORT", b"M-SEARCH"),
    *(b"PROPFIND", b"MKCOL", b"LOCK", b"UNLOCK", b"LINK", b"SOURCE", b"SEARCH", b"ACL"),
]


async def test_the_scope_has_all_keys_of_asgi(serve):
    """The types are those that ASGI names."""
    app = Echo()
    client = await serve(app)
    await client.get(b"/path?query", b"User-Agent: test")
    scope = app.scope
    assert type(scope) is dict
    assert scope.pop("asgi")["version"] == "3.0"
    scope.pop("extensions", None)
    assert scope == {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "scheme": "https" if serve.kind == "tls" else "http",
        "path": "/path",
        "raw_path": b"/path",
        "query_string": b"query",
        "root_path": "",
        "headers": [(b"host", b"x"), (b"user-agent", b"test")],
        "client": client.sock.getsockname(),
        "server": client.sock.getpeername(),
        "state": {"shared": ["from the lifespan"], "number": 1},
    }
    assert type(scope["client"]) is type(scope["server"]) is tuple
    assert type(scope["headers"]) is list


async def test_spec_version_is_one_of_asgi(serve):
    app = Echo()
    client = await serve(app)
    await client.get()
    serve.agreed(app.scope["asgi"]["spec_version"], "2.3", "2.4", "2.5")


async def test_each_scope_is_a_new_dict(serve):
    """An application may change its scope, and the next request does not see it."""
    app = Echo()
    client = await serve(app)
    await client.get()
    first = app.scope
    first["headers"].append((b"mine", b""))
    first["asgi"]["mine"] = first["mine"] = True
    first.setdefault("extensions", {})["mine"] = {}
    await client.get()
    assert "mine" not in app.scope
    assert "mine" not in app.scope["asgi"]
    assert "mine" not in app.scope.get("extensions", {})
    assert app.scope["headers"] == [(b"host", b"x")]


async def test_the_state_of_the_lifespan_is_copied_for_each_request(serve):
    """ASGI asks for a shallow copy: the objects in it are the same for all requests."""
    app = Echo()
    client = await serve(app)
    await client.get()
    first = app.scope["state"]
    first["number"] = 2
    first["mine"] = True
    await client.get()
    assert app.scope["state"]["number"] == 1
    assert "mine" not in app.scope["state"]
    assert app.scope["state"]["shared"] is first["shared"]


@pytest.mark.parametrize("name", TARGETS)
async def test_a_target_becomes_path_raw_path_and_query(serve, name):
    target, path, raw, query = TARGETS[name]
    app = Echo()
    client = await serve(app)
    answer = await client.get(target)
    assert answer.body == b"ok"
    assert (app.scope["path"], app.scope["raw_path"], app.scope["query_string"]) == (path, raw, query)


async def test_the_target_of_options_may_be_a_star(serve):
    app = Echo()
    client = await serve(app)
    await client.get(b"*", method=b"OPTIONS")
    assert (app.scope["path"], app.scope["raw_path"]) == ("*", b"*")


@pytest.mark.parametrize("name", NONE)
async def test_an_invalid_target_is_refused(serve, name):
    """uvicorn refuses the target of CONNECT, too."""
    app = Echo()
    client = await serve(app)
    answer = await client.get(NONE[name], method=b"CONNECT" if name == "authority" else b"GET")
    assert (answer.status, answer.body) == (400, REFUSED)
    assert app.scopes == []
    assert serve.said("Invalid HTTP request received.")


@pytest.mark.parametrize(("target", "query"), [(b"http://x", b""), (b"http://u:p@x:80?q", b"q")])
async def test_an_absolute_target_without_a_path(serve, target, query):
    """uvicorn refuses it, since its path is None. RFC 9110 4.2.3: the path is ``/``."""
    app = Echo()
    client = await serve(app)
    answer = await client.get(target)
    paths = [(scope["path"], scope["raw_path"], scope["query_string"]) for scope in app.scopes]
    serve.agreed((answer.status, paths), (400, []), (200, [("/", b"/", query)]))


@pytest.mark.parametrize("target", ["/\u00e9".encode(), b"/\xff"])
async def test_bytes_that_are_not_ascii_are_refused_in_a_target(serve, target):
    app = Echo()
    client = await serve(app)
    answer = await client.get(target)
    assert (answer.status, app.scopes) == (400, [])


@pytest.mark.parametrize("method", METHODS)
async def test_the_scope_has_the_method(serve, method):
    app = Echo()
    client = await serve(app)
    await client.get(method=method)
    assert app.scope["method"] == method.decode()


@pytest.mark.parametrize("method", [b"get", b"FOO", b"BREW", b"PRI", b"G@T"])
async def test_an_unknown_method_is_refused(serve, method):
    """llhttp accepts the methods of its own list only."""
    app = Echo()
    client = await serve(app)
    answer = await client.get(method=method)
    assert (answer.status, app.scopes) == (400, [])


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
async def test_the_scope_has_the_version(serve, version):
    app = Echo()
    client = await serve(app)
    await client.get(version=version)
    assert app.scope["http_version"] == version.decode()


async def test_header_names_are_lower_case_and_fields_are_in_order_with_repeats(serve):
    app = Echo()
    client = await serve(app)
    await client.get(b"/", b"X-B: 1", b"x-a:  2", b"X-b: 3", b"X-C:", b"Cookie: a=1", b"Cookie: b=2")
    assert app.scope["headers"] == [
        (b"host", b"x"),
        (b"x-b", b"1"),
        (b"x-a", b"2"),
        (b"x-b", b"3"),
        (b"x-c", b""),
        (b"cookie", b"a=1"),
        (b"cookie", b"b=2"),
    ]


async def test_space_around_a_value(serve):
    """uvicorn strips the space before a value and not the space after it; RFC 9110 5.5 asks for both."""
    app = Echo()
    client = await serve(app)
    await client.get(b"/", b"X-Space: \t a b \t")
    serve.agreed(app.scope["headers"][1], (b"x-space", b"a b \t"), (b"x-space", b"a b"))


async def test_a_value_may_have_any_byte_except_controls(serve):
    app = Echo()
    client = await serve(app)
    value = bytes(each for each in range(0x21, 256) if each != 0x7F) + b"\t ."
    await client.get(b"/", b"X-All: " + value)
    assert app.scope["headers"][1:] == [(b"x-all", value)]


async def test_a_head_may_arrive_byte_by_byte(serve):
    app = Echo()
    client = await serve(app)
    for byte in b"POST /pa%20th?query HTTP/1.1\r\nHost: host\r\nX-Long: value\r\nContent-Length: 2\r\n\r\nab":
        await client.send(bytes([byte]))
    assert (await client.answer()).body == b"ab"
    assert (app.scope["path"], app.scope["query_string"]) == ("/pa th", b"query")
    assert app.scope["headers"] == [(b"host", b"host"), (b"x-long", b"value"), (b"content-length", b"2")]


async def test_the_scope_has_the_fields_of_the_connection_too(serve):
    """The server drops no field, not even those that concern only this connection."""
    app = Echo()
    client = await serve(app)
    await client.send(
        b"POST / HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    )
    await client.answer()
    assert app.scope["headers"][1:] == [(b"connection", b"keep-alive"), (b"transfer-encoding", b"chunked")]


async def test_requests_of_one_connection_have_its_addresses(serve):
    app = Echo()
    client = await serve(app)
    other = await serve.connect()
    for each in (client, other, client):
        await each.get()
    assert [scope["client"] for scope in app.scopes] == [
        each.sock.getsockname() for each in (client, other, client)
    ]


async def test_the_extensions_are_dicts(serve):
    """In custody fdpass adds its own; all others are ASGI's."""
    app = Echo()
    client = await serve(app)
    await client.get()
    extensions = app.scope.get("extensions", {})
    known = {"http.response.pathsend", "http.response.trailers", "http.response.early_hint", "fdpass"}
    assert set(extensions) <= known
    assert ("fdpass" in extensions) == (serve.kind == "custody")
    assert all(type(each) is dict for each in extensions.values())


async def test_a_root_path_is_put_before_the_path(fresh):
    """uvicorn has a setting for it; fdpass has none, and its root_path is empty."""
    app = Echo()
    await fresh.start(**({"root_path": "/mounted"} if fresh.reference else {}))
    client = await fresh(app)
    await client.get(b"/a%20b")
    root = "/mounted" if fresh.reference else ""
    assert app.scope["root_path"] == root
    assert (app.scope["path"], app.scope["raw_path"]) == (f"{root}/a b", root.encode() + b"/a%20b")
