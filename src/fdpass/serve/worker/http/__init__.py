"""HTTP/1.1 for ASGI applications: a protocol for each connection, an exchange for each request."""
