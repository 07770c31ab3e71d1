"""One process listens, workers serve: pages, and that the load is even."""


def test_two_requests_are_served_by_two_workers(serve):
    server = serve()
    assert sorted(int(server.get()[1]) for _ in range(2)) == sorted(server.workers())


def test_the_books_agree_when_all_has_ended(serve):
    server = serve()
    for _ in range(5):
        assert server.get()[0] == 200
    server.wait_connections(accepted=5, handed=5, finished=5, live=0, lost=0)


def test_sigterm_stops_it_with_exit_code_0(serve):
    server = serve()
    assert server.stop() == 0
    assert "Traceback" not in server.log()
