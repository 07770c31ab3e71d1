"""Streams of HTTP requests, well-formed and less so, and what can happen to their bytes."""

import itertools

METHODS = [
    b"GET", b"GET", b"GET", b"HEAD", b"POST", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"TRACE",
    b"PRI", b"CONNECT", b"PURGE", b"M-SEARCH", b"PROPFIND", b"QUERY", b"get", b"G", b"SOURCE", b"DESCRIBE", b"",
    b"GET\t",
]  # fmt: skip
TARGETS = [
    b"/", b"/", b"/a/b?c=d", b"*", b"http://x/", b"http://x:80/a", b"x:443", b"/%00", b"/\xc3\xa4", b"", b"//",
    b"/a b", b"/#f", b"?", b"[::1]:1", b"/\x01",
]  # fmt: skip
VERSIONS = [
    b" HTTP/1.1", b" HTTP/1.1", b" HTTP/1.1", b" HTTP/1.1", b" HTTP/1.0", b" HTTP/0.9", b"", b" HTTP/2.0", b" ",
    b" HTTP/1.2", b" HTTP/1", b" http/1.1", b" HTTP/1.1 ", b"  HTTP/1.1", b" RTSP/1.0", b" ICE/1.0",
    b" HTTP/3.0",
]  # fmt: skip
FIELDS = [
    b"Host: x", b"X-A: b", b"X-A:", b"Accept: */*", b"Connection: close", b"Connection: keep-alive",
    b"Expect: 100-continue", b"Connection: upgrade", b"Connection: Upgrade, close", b"Upgrade: websocket",
    b"Upgrade: h2c", b"Upgrade:", b"upgrade : h2c", b"Connection:\r\n upgrade", b"X-A: b\r\n\tc",
    b"X-A: b\r\n Content-Length: 3", b"X-A: \xff", b"X-A: \x00", b": x", b"X A: b", b"X", b"X-A: b\r",
    b"X-A: b\nX-B: c", b"X-A: b\rX-B: c", b"TE: trailers", b"Proxy-Connection: upgrade", b'X-A: "b',
    b"HTTP2-Settings: A",
]  # fmt: skip
CHUNKED = [
    b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", b"transfer-encoding:Chunked ",
    b"TRANSFER-ENCODING:\tchunked",
]  # fmt: skip
LENGTHS = [
    b"Content-Length: %d", b"Content-Length: %d", b"content-length:%d", b"CONTENT-LENGTH:\t%d ",
    b"Content-Length: 0%d",
]  # fmt: skip
CONFLICTS = [
    b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: chunked, gzip",
    b"Transfer-Encoding:", b"Transfer-Encoding: identity", b"Transfer-Encoding: chunkedx",
    b"Transfer-Encoding : chunked", b"Transfer-Encoding:\r\n chunked", b'Transfer-Encoding: "chunked"',
    b"Transfer-Encoding: x\r\nTransfer-Encoding: chunked", b"Transfer-Encoding: chunked;q=1",
    b"Content-Length: 3", b"Content-Length: +3", b"Content-Length: -3", b"Content-Length: 3, 3",
    b"Content-Length: 3 3", b"Content-Length:", b"Content-Length: 0", b"Content-Length: 0x3",
    b"Content-Length: 3\r\nContent-Length: 4", b"Content-Length: 3\r\nContent-Length: 3", b"Content-Length : 3",
    b"Content-Length: 99999999999999999999", b"Content-Length: 18446744073709551617", b"Content_Length: 3",
    b"Content-Length:\x0b3", b"Content-Length: 3\x0c", b"Content-Length: \xb2", b"Content-Length: 3;",
    b"Content-Length:\r\n 3",
]  # fmt: skip
BODIES = [
    b"", b"abc", b"abc", b"\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"0\r\n\r\n", b"5\r\nabc", b"SM\r\n\r\n",
    b"xxxxxxxxxxxxxxxxxxxx", b"\n",
]  # fmt: skip
EXTENSIONS = [
    b"", b"", b"", b";a", b";a=b", b';a="b;c"', b';a="b\\"c"', b';a="b', b'; a = "\r\n"', b";", b" ;a", b" ",
    b"\t", b";a\n", b";a\rb", b";\x00",
]  # fmt: skip
TRAILERS = [
    b"", b"", b"T: r\r\n", b"T: 0\r\nX-Sum: 7\r\n", b"Content-Length: 3\r\n", b" T\r\n", b"T\r\n", b"T: r\n",
    b"\r", b"0\r\n", b"Transfer-Encoding: chunked\r\n", b"T: \r\n s\r\n", b"\n",
    b"Connection: close\r\n", b"proxy-connection: a, close\r\n", b"Upgrade: websocket\r\nConnection: upgrade\r\n",
    b"Expect: 100-continue\r\n",
]  # fmt: skip
PREFACES = [
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\n", b"PRI * HTTP/1.1\r\n\r\nSM\r\n\r\n",
    b"\r\n", b"\r\n\r\n", b"\n", b"GET /\r\n", b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00", b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", b"\x00",
]  # fmt: skip
PIECES = [
    b"\n", b"\r", b"\r\n", b"\r\n\r\n", b"\n\n", b"\r\r\n", b" ", b"\t", b"\x00", b":", b";", b",", b"0", b"3",
    b"f", b'"', b"_", b"\x0b", b"\x80", b"PRI ", b"HTTP/2.0", b"CONNECT ",
    b"Upgrade: h2c\r\nConnection: upgrade\r\n", b"Connection: close\r\n", b"SM\r\n\r\n",
    b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"GET / HTTP/1.1\r\n\r\n",
]  # fmt: skip
SIZES = [b"%x", b"%x", b"%x", b"%X", b"0%x", b"00000000000000000%x", b"%x ", b"0x%x", b"+%x", b" %x"]


def chunked(rng, body, odd):
    """A body in chunks."""
    chunks, size = [], rng.choice((1, 2, 3, 17))
    for start in range(0, len(body), size):
        piece = body[start : start + size]
        number = (rng.choice(SIZES) if odd else b"%x") % len(piece)
        end = b"\n" if odd and rng.random() < 0.05 else b"\r\n"
        chunks.append(b"%b%b\r\n%b%b" % (number, rng.choice(EXTENSIONS if odd else EXTENSIONS[:7]), piece, end))
    return b"%b0%b\r\n%b\r\n" % (
        b"".join(chunks),
        rng.choice(EXTENSIONS[:7]),
        rng.choice(TRAILERS if odd else TRAILERS[:4]),
    )


def request(rng):
    """One request, plain in every third case."""
    odd = rng.random() < 0.6
    if odd and rng.random() < 0.08:
        return rng.choice(PREFACES)
    usual = not odd or rng.random() < 0.5
    line = b"%b /%b" % (rng.choice(METHODS[:10]), VERSIONS[0]) if usual else first_line(rng)
    fields = [b"Host: x", *rng.choices(FIELDS if odd else FIELDS[:6], k=rng.choice((0, 0, 1, 2)))]
    body, how = b"", rng.random()
    if how > 0.3:
        body = rng.choice(BODIES)
        if how > 0.65:
            fields.append(rng.choice(CHUNKED))
            body = chunked(rng, body, odd)
        else:
            fields.append(rng.choice(LENGTHS) % len(body))
    if odd and rng.random() < 0.3:
        fields.insert(rng.randrange(len(fields)), rng.choice(CONFLICTS))
    if odd and rng.random() < 0.3:
        rng.shuffle(fields)
    return b"%b\r\n%b\r\n\r\n%b" % (line, b"\r\n".join(fields), body)


def first_line(rng):
    return b"%b %b%b" % (rng.choice(METHODS), rng.choice(TARGETS), rng.choice(VERSIONS))


def stream(rng):
    """One to four requests, one behind the other; some are like the one before."""
    found = [request(rng)]
    for _ in range(rng.choice((0, 1, 1, 2, 3))):
        line, end, rest = found[-1].partition(b"\r\n")
        found.append(
            line[:5] + rng.choice(TARGETS) + line[6:] + end + rest if rng.random() < 0.2 else request(rng)
        )
    return b"".join(found)


def mutated(rng, data):
    """The stream with something put in, gone, repeated, swapped or changed."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        start = place(rng, data)
        stop = min(len(data), start + rng.choice((0, 1, 2, 4, 20)))
        before, piece, after = data[:start], data[start:stop], data[stop:]
        how = rng.randrange(6)
        if how == 0:
            data = before + rng.choice(PIECES) + data[start:]
        elif how == 1:
            data = before + after
        elif how == 2:
            data = before + piece + piece + after
        elif how == 3:
            data = before + rng.choice(PIECES) + after
        elif how == 4:
            other = place(rng, after)
            data = before + after[:other] + piece + after[other:]
        elif start < len(data):
            data = before + bytes([data[start] ^ 1 << rng.randrange(8)]) + data[start + 1 :]
    return data


def place(rng, data):
    """Anywhere, or where a line ends: there parsers decide."""
    start = rng.randint(0, len(data))
    if rng.random() < 0.5 and (found := data.find(b"\r\n", start)) >= 0:
        return found + rng.choice((0, 1, 2, 2))
    return start


def cuts(rng, data, ends):
    """How it may come: as it was sent, one request at a time, anyhow, or byte by byte.

    Args:
        ends: Where requests end.
    """
    how = rng.randrange(64)
    if how == 0:
        return list(range(1, len(data)))  # which takes the parsers long
    if how < 16:
        return []
    found = list(ends) if how < 40 else []
    return found + [rng.randint(1, len(data) or 1) for _ in range(rng.choice((0, 1, 3)))]


def pieces(data, cuts):
    edges = [0, *sorted({cut for cut in cuts if 0 < cut < len(data)}), len(data)]
    return [data[start:stop] for start, stop in itertools.pairwise(edges) if start < stop]
