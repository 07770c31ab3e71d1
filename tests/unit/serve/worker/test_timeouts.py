"""Timers that are set again when they run out do not multiply the timers of the loop."""

import asyncio

from fdpass.serve.worker.timeouts import Timeouts

SECONDS = 0.02


def test_one_that_is_set_again_as_it_runs_out_costs_no_further_timer_of_the_loop():
    async def main():
        loop = asyncio.get_running_loop()
        timeouts = Timeouts(loop, SECONDS)
        over = asyncio.Event()
        rounds = 0

        def again():
            nonlocal rounds
            rounds += 1
            if rounds == 10:
                over.set()
            else:
                timeouts.start(again)

        def other():
            others[0] = timeouts.start(other)

        def renew():  # a busy server: others are set, and cancelled, all the time
            others[0].cancel()
            others[0] = timeouts.start(other)
            loop.call_later(SECONDS / 4, renew)

        others = [timeouts.start(other)]
        timeouts.start(again)
        renew()
        await over.wait()
        return sum(1 for handle in loop._scheduled if not handle.cancelled() and "_expire" in repr(handle))

    assert asyncio.run(main()) <= 1
