"""Who is answered when, who is refused, and what an error of one question does to the others."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager

import pytest

from laserrec.errors import DeadlineError, RefusedError
from laserrec.serving.engine import Engine, Timed

LATER = 10.0


class Work:
    """Answers numbers with their squares, one pass at a time when let; remembers the passes."""

    def __init__(self) -> None:
        self.passes: list[list[int]] = []
        self.allowed, self.begun = threading.Semaphore(0), threading.Semaphore(0)

    def __call__(self, questions: Sequence[int]) -> list[int]:
        self.passes.append(list(questions))
        self.begun.release()
        assert self.allowed.acquire(timeout=LATER)
        if 13 in questions:
            raise ValueError("13")
        return [question**2 for question in questions]


@contextmanager
def engine(work: Work, batch_tokens: int = 3, queue_requests: int = 10, queue_tokens: int = 1000) -> Iterator[Engine[int, int]]:
    """An engine in which a number above 100 costs its hundreds."""
    running = Engine(
        work, lambda question: max(1, question // 100), batch_tokens=batch_tokens, queue_requests=queue_requests, queue_tokens=queue_tokens
    )
    try:
        yield running
    finally:
        work.allowed.release(1000)
        running.close()


def soon() -> float:
    return time.monotonic() + LATER


def hold(running: Engine[int, int], work: Work) -> Future[Timed[int]]:
    """Begin a pass of one question that lasts until the next permission."""
    (held,) = running.submit([0], soon())
    assert work.begun.acquire(timeout=LATER)
    return held


def answers(futures: Sequence[Future[Timed[int]]]) -> list[int]:
    return [future.result(LATER).answer for future in futures]


def test_what_waits_goes_in_one_pass_and_comes_back_in_order() -> None:
    work = Work()
    with engine(work, batch_tokens=9) as running:
        held = hold(running, work)
        calls = [running.submit([3, 4], soon()), running.submit([5], soon())]
        assert (running.waiting, running.waiting_tokens) == (3, 3)
        work.allowed.release(2)
        assert [answers(call) for call in calls] == [[9, 16], [25]]
        assert held.result().answer == 0
        assert sorted(work.passes[1]) == [3, 4, 5]
        assert (running.waiting, running.waiting_tokens) == (0, 0)


def test_a_large_batch_does_not_keep_single_questions_waiting() -> None:
    work = Work()
    with engine(work) as running:
        hold(running, work)
        large = running.submit([1, 2, 3, 4, 5, 6], soon())
        single = running.submit([7], soon())
        other = running.submit([8, 9], soon())
        work.allowed.release(9)
        assert answers([*large, *single, *other]) == [1, 4, 9, 16, 25, 36, 49, 64, 81]
    assert work.passes[1:] == [[1, 7, 8], [2, 9, 3], [4, 5, 6]]


def test_a_pass_holds_so_many_tokens_and_a_dear_question_goes_alone() -> None:
    work = Work()
    with engine(work) as running:
        hold(running, work)
        calls = [running.submit([question], soon()) for question in (200, 900, 1, 100, 100, 100)]
        work.allowed.release(9)
        for call in calls:
            wait(call, LATER)
    assert work.passes[1:] == [[200], [900], [1, 100, 100], [100]]


def test_too_many_questions_or_tokens_are_refused_and_leave_nothing() -> None:
    work = Work()
    with engine(work, queue_requests=4, queue_tokens=10) as running:
        hold(running, work)
        whole = running.submit([2000], soon())  # nobody waits, so it is accepted at any cost
        with pytest.raises(RefusedError, match="Too many tokens wait") as refused:
            running.submit([1], soon())
        assert (refused.value.cause, refused.value.retry_after, running.waiting) == ("tokens", 1, 1)
        work.allowed.release(1)
        assert work.begun.acquire(timeout=LATER)
        three = running.submit([1, 2, 3], soon())
        with pytest.raises(RefusedError, match="Too many requests wait") as refused:
            running.submit([1, 2], soon())
        assert (refused.value.cause, running.waiting) == ("requests", 3)
        work.allowed.release(9)
        assert answers([*whole, *three]) == [2000**2, 1, 4, 9]


def test_a_question_past_its_deadline_is_not_computed() -> None:
    work = Work()
    with engine(work) as running:
        hold(running, work)
        (late,) = running.submit([4], time.monotonic() - 1)
        (fine,) = running.submit([5], soon())
        work.allowed.release(2)
        assert fine.result(LATER).answer == 25
        with pytest.raises(DeadlineError):
            late.result(LATER)
    assert work.passes == [[0], [5]]


def test_a_question_that_nobody_waits_for_any_more_is_not_computed() -> None:
    work = Work()
    with engine(work) as running:
        hold(running, work)
        (given_up,), (fine,) = running.submit([4], soon()), running.submit([5], soon())
        assert given_up.cancel()
        work.allowed.release(2)
        assert fine.result(LATER).answer == 25
        assert running.waiting == 0
    assert work.passes == [[0], [5]]


def test_an_error_is_the_answer_of_the_question_that_made_it_alone() -> None:
    work = Work()
    with engine(work, batch_tokens=9) as running:
        hold(running, work)
        one, bad, two = running.submit([2, 13, 3], soon())
        work.allowed.release(9)
        assert answers([one, two]) == [4, 9]
        with pytest.raises(ValueError, match="13"):
            bad.result(LATER)
        assert answers(running.submit([6], soon())) == [36]


def test_jobs_run_in_the_same_thread_between_passes() -> None:
    work = Work()
    with engine(work) as running:
        hold(running, work)
        order: list[object] = []
        job = running.run(lambda: order.append((threading.current_thread().name, len(work.passes))))
        failing = running.run(lambda: 1 // 0)
        after = running.submit([2], soon())
        work.allowed.release(9)
        job.result(LATER)
        assert answers(after) == [4]
        with pytest.raises(ZeroDivisionError):
            failing.result(LATER)
    assert order == [("laserrec-engine", 1)]


def test_closing_answers_what_waits_and_refuses_the_rest() -> None:
    work = Work()
    with engine(work) as running:
        hold(running, work)
        waiting = running.submit([2, 3], soon())
        closer = threading.Thread(target=running.close)
        closer.start()
        while not running._closing:
            time.sleep(0.001)
        with pytest.raises(RefusedError, match="closing"):
            running.submit([4], soon())
        with pytest.raises(RefusedError, match="closing"):
            running.run(lambda: None)
        work.allowed.release(9)
        closer.join(LATER)
        assert answers(waiting) == [4, 9]


def test_times_are_those_of_the_queue_and_the_pass() -> None:
    work = Work()
    with engine(work) as running:
        held = hold(running, work)
        (waiting,) = running.submit([2], soon())
        time.sleep(0.05)
        work.allowed.release(2)
        first, second = held.result(LATER), waiting.result(LATER)
    assert first.computed >= 0.05
    assert first.queued < 0.05 <= second.queued
