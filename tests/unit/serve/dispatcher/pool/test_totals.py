"""What the dispatcher counts: it goes on when workers end."""

import signal

from fdpass.serve.shared.ledger import BUCKETS


def test_the_counts_of_a_dead_worker_are_added_before_its_row_is_cleared(new_pool, fakes):
    case = new_pool().start()
    worker, other = case.pool.workers
    with fakes.ledger.counts(worker.row) as counts:
        counts[2 * BUCKETS] = 7
    fakes.ledger.handled[worker.row] = 8
    fakes.ledger.duration[worker.row] = 9
    case.end(worker, -signal.SIGKILL)
    totals = case.pool.totals
    assert (totals.counts[2 * BUCKETS], sum(totals.counts), totals.handled, totals.duration) == (7, 7, 8, 9)
    assert fakes.ledger.handled[worker.row] == 0  # the next worker has the row
    case.end(other, 0)
    assert sum(totals.counts) == 7


def test_deaths_are_counted_by_cause_and_replaced_workers_are_restarts(new_pool, fakes):
    case = new_pool(workers=4).start()
    killed, left, hung, _ = case.pool.workers
    case.end(killed, -signal.SIGKILL)
    case.end(left, 3)
    hung.kill("hang")
    case.end(hung, -signal.SIGKILL)
    totals = case.pool.totals
    assert totals.deaths == {"SIGKILL": 1, "exit 3": 1, "hang": 1}
    assert (totals.restarts, totals.failed) == (3, 0)
    assert totals.started == 4 + len(case.starting())


def test_a_worker_that_retires_in_order_or_is_stopped_at_once_is_no_death(new_pool, fakes):
    case = new_pool().start()
    first, second = case.pool.workers
    case.pool.retire(first)
    case.end(first, 0)
    case.pool.stop()
    case.pool.kill()
    case.end(second, -signal.SIGKILL)
    assert not case.pool.totals.deaths


def test_reloads_are_counted_by_outcome(new_pool, fakes):
    case = new_pool().start()
    case.reload(case.pool.current.config)
    case.make_ready(case.starting())
    case.reload(case.pool.current.config)
    case.end(case.starting()[0], 1)
    totals = case.pool.totals
    assert totals.reloads == {"succeeded": 1, "failed": 1, "refused": 0}
    assert totals.failed == 1
