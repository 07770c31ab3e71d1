"""`ResumeQueue`: how many streams are begun at a time."""

import asyncio

import pytest

from fdpass.serve.worker.live import resume_queue
from fdpass.serve.worker.live.resume_queue import ResumeQueue


@pytest.fixture(autouse=True)
def _two(monkeypatch):
    monkeypatch.setattr(resume_queue, "MOST", 2)


def run(test):
    async def main():
        begun = []
        await test(ResumeQueue(asyncio.get_running_loop(), begun.append), begun)

    asyncio.run(main())


async def turns():
    for _ in range(4):
        await asyncio.sleep(0)


def test_only_some_are_begun_until_one_of_them_is_accepted():
    async def test(queue, begun):
        for stream in "abcd":
            queue.add(stream)
        assert begun == []  # in the loop's next turn
        await turns()
        assert begun == ["a", "b"]
        queue.discard("b")
        await turns()
        assert begun == ["a", "b", "c"]
        queue.discard("a")
        queue.discard("c")
        await turns()
        assert begun == ["a", "b", "c", "d"]

    run(test)


def test_one_that_ends_while_it_waits_is_not_begun():
    async def test(queue, begun):
        for stream in "abc":
            queue.add(stream)
        await turns()
        queue.discard("c")
        queue.discard("a")
        await turns()
        assert begun == ["a", "b"]

    run(test)


def test_those_that_wait_are_taken_out():
    async def test(queue, begun):
        for stream in "abcd":
            queue.add(stream)
        await turns()
        assert queue.take_all() == ["c", "d"]
        queue.discard("a")
        await turns()
        assert begun == ["a", "b"]

    run(test)


def test_an_application_that_takes_too_long_is_waited_for_no_longer(monkeypatch):
    monkeypatch.setattr(resume_queue, "SECONDS", 0.01)

    async def test(queue, begun):
        for stream in "abc":
            queue.add(stream)
        while len(begun) < 3:
            await asyncio.sleep(0.01)

    run(test)
