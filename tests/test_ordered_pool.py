"""The encoders' pool: its busy time, whichever side waited."""

from __future__ import annotations

import time

from vidmatte.writers.ordered_pool import OrderedPool

WORK = 0.02


class Item:
    def release(self) -> None:
        pass


def run(workers: int, items: int, pause: float) -> tuple[OrderedPool, float]:
    """A pool after its work, and the seconds spent in the calling thread."""

    def work(tool: None, item: Item) -> int:
        time.sleep(WORK)
        return 1

    pool: OrderedPool = OrderedPool(workers, lambda: None, work)
    start = time.perf_counter()
    done = 0
    for _ in range(items):
        done += len(pool.submit(Item()))
        time.sleep(pause)
    done += sum(pool.drain())
    assert done == items
    return pool, time.perf_counter() - start


def test_workers_are_busy_while_the_caller_waits() -> None:
    pool, calling = run(workers=2, items=20, pause=0)
    assert 10 * WORK <= pool.busy_seconds(calling) <= calling


def test_the_caller_counts_if_it_has_more_to_do_than_the_workers() -> None:
    pool, calling = run(workers=4, items=5, pause=5 * WORK)
    assert 5 * 5 * WORK <= pool.busy_seconds(calling) <= calling
    assert 5 * WORK / 4 <= pool.busy_seconds(0.0) < 0.5 * calling
