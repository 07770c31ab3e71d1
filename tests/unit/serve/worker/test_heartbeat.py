"""`Heartbeat`: when the timer that ends a worker without a dispatcher is set."""

import asyncio
import threading
from types import SimpleNamespace

import pytest

from fdpass._conversation import Conversation
from fdpass._options import MAX_MESSAGE
from fdpass._pair import socket_pair
from fdpass.serve.shared.ledger import SIZE, Ledger
from fdpass.serve.worker import heartbeat
from fdpass.serve.worker.request_count import RequestCount


@pytest.mark.parametrize("hang_timeout", [0, 1.0])
def test_the_timer_is_set_when_the_dispatcher_has_gone(monkeypatch, hang_timeout):
    """Before, it would end a worker that was stopped together with its dispatcher, and goes on."""
    timers, ledger = [], Ledger(bytearray(SIZE))
    faulthandler = SimpleNamespace(dump_traceback_later=lambda seconds, **more: timers.append((seconds, more)))
    monkeypatch.setattr(heartbeat, "faulthandler", faulthandler)
    dispatcher, worker = socket_pair("seqpacket")
    channel = Conversation(worker, acknowledged=False, max_message=MAX_MESSAGE, max_fds=0, policy=None)

    async def live():
        heartbeat.Heartbeat(channel, ledger, 0, RequestCount(), hang_timeout).start()
        first = ledger.beat[0]
        while ledger.beat[0] == first:
            await asyncio.sleep(0.01)
        assert timers == []
        threads = [thread for thread in threading.enumerate() if thread.name == "fdpass-watch"]
        assert len(threads) == bool(hang_timeout)
        dispatcher.close()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()
        assert timers == ([(16.0, {"exit": True})] if hang_timeout else [])

    asyncio.run(live())
    channel.close()
    ledger.release()
