"""What an outer service manager hears of `fdpass keep`: READY, STATUS, RELOADING, STOPPING, with its own pid."""

import os
import socket

import pytest

import fdpass


@pytest.fixture
def manager(tmp_path):
    """The notification socket of a service manager, and the environment of its service."""
    path = tmp_path / "outer"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(path))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        sock.settimeout(60)
        yield sock, {**os.environ, "NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "9000000"}


def heard(sock):
    with fdpass.recv_fds(sock) as message:
        assert len(message) == 0
        return message.data.decode().split("\n"), message.credentials.pid


def test_ready_status_reloading_and_stopping_are_relayed(keeping, manager):
    """They come from `fdpass keep` itself, so NotifyAccess=main admits them; descriptors are not relayed."""
    sock, environment = manager
    keep = keeping(env=environment)
    keep.started()
    own = keep.process.pid
    keep.ask("notify('FDSTORE=1\\nFDNAME=x', [file_of('x')]); notify('MAINPID=1\\nREADY=1\\nSTATUS=ten'); say('')")
    assert heard(sock) == (["STATUS=ten"], own)
    assert heard(sock) == (["READY=1", f"MAINPID={own}"], own)
    keep.ask("notify('RELOADING=1\\nMONOTONIC_USEC=12'); notify('WATCHDOG=1'); say('')")
    assert heard(sock) == (["RELOADING=1", "MONOTONIC_USEC=12"], own)
    assert heard(sock) == (["WATCHDOG=1"], own)
    assert keep.list()["program"]["state"] == "reloading"
    keep.ask("notify('READY=1'); notify('STOPPING=1'); barrier(); say('')")  # it can be started again, so it stays
    assert heard(sock) == (["READY=1", f"MAINPID={own}"], own)
    assert keep.list()["program"]["state"] == "stopping"
    keep.stop()
    assert heard(sock) == (["STOPPING=1"], own)


def test_the_watchdog_is_the_programs(keeping, manager):
    """WATCHDOG_PID names the program, whose WATCHDOG=1 is relayed."""
    _, environment = manager
    keep = keeping(env=environment)
    pid, _ = keep.started()
    assert keep.ask("say(os.environ['WATCHDOG_PID'], os.environ['WATCHDOG_USEC'])") == f"{pid} 9000000"
    keep.close()
    keep = keeping(env={**environment, "WATCHDOG_PID": "1"})  # of another process
    keep.started()
    assert keep.ask("say(*[name for name in os.environ if name.startswith('WATCHDOG')])") == ""


def test_stopping_of_a_program_that_is_not_restarted_is_relayed_once(keeping, manager):
    sock, environment = manager
    keep = keeping("--restart", "no", env=environment)
    keep.started()
    keep.ask("notify('STOPPING=1'); say('')")
    assert heard(sock)[0] == ["STOPPING=1"]
    keep.tell("os._exit(0)")
    keep.wait()
    sock.settimeout(0)
    with pytest.raises(fdpass.Busy):
        fdpass.recv_fds(sock)
