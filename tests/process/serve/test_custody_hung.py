"""A worker whose event loop is stuck is killed after ``--hang-timeout``: its clients fare as with ``kill -9``."""


def test_clients_of_a_hung_worker_go_on_with_others_and_its_request_is_repeated(kept, client):
    server = kept("--hang-timeout", "1", "--workers", "1", "--spare", "1")
    idle, get = client(server), client(server)
    hung = idle.ask().told()["pid"]
    assert get.ask().told()["pid"] == hung
    get.ask("/block", "t")
    assert server.wait_executed("t") == hung
    waits = client(server).ask("/", "late")  # nobody reads it, in a loop that is stuck
    idle.ask("/", "second")
    told = get.told()
    assert (told["attempt"], told["pid"] != hung) == (1, True)
    for one in (idle, waits):
        told = one.told()
        assert (told["attempt"], told["pid"] != hung) == (0, True)
    server.wait_log(f"worker {hung} ended")
    assert f"worker {hung} hangs: its event loop has not run" in server.log()
    server.wait_connections(accepted=3, live=3, lost=0, replayed=1, answered_502=0, cut=0)


def test_a_post_that_hangs_its_worker_gets_a_502_and_a_second_hang_of_a_get_too(kept, client):
    server = kept("--hang-timeout", "1", "--workers", "2")
    one = client(server).ask("/block", "post", "POST", b"data")
    server.wait_executed("post")
    assert one.refused()
    assert [what[:2] for what in server.executed()] == [("post", 0)]
    server.wait_connections(accepted=1, live=0, lost=1, replayed=0, answered_502=1)
