"""Silent and slow clients: the server does not wait for them for ever, and says when they use it up."""

LIMITS = ("--max-connections", "4", "--workers", "2")


def test_silent_clients_make_room_for_others_after_the_header_timeout(serve, client):
    """Some send nothing, and some a part of a head. The log says how many connections are idle."""
    server = serve("app:app", *LIMITS, "--header-timeout", "2")
    silent = [client(server) for _ in range(4)]
    for one in silent[:2]:
        one.sock.sendall(b"GET / HTTP/1.1\r\nHost")
    server.wait_connections(live=4)
    server.wait_log("4 connections are open, the most there may be, and 4 of them are idle")
    assert client(server).send(connection="close").answered() in server.workers()
    for one in silent:
        assert one.sock.recv(100) == b""
    server.wait_connections(accepted=5, finished=5, live=0, lost=0)
    assert server.log().count("the most there may be") == 1
