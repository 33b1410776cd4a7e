"""One thread that computes: it gathers what waits into one pass, fairly, and refuses what it could not answer in time.

Knows nothing of models: `work` answers several questions at once. Every caller's questions wait in a line of their own, and a pass takes
one question of each line in turn, so a large batch is spread over passes and a single question is always in the next one.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from laserrec.errors import DeadlineError, LaserrecError, RefusedError

Q = TypeVar("Q")
A = TypeVar("A")
T = TypeVar("T")

NEW_SHARE = 0.2
"""Weight of the latest pass in the mean time of a question."""


@dataclass(frozen=True)
class Timed(Generic[A]):
    """An answer, and how long it took.

    Attributes:
        answer: what `work` returned.
        queued: seconds that the question waited.
        computed: seconds of the pass that it was in.
    """

    answer: A
    queued: float
    computed: float


@dataclass(frozen=True)
class _Row(Generic[Q, A]):
    question: Q
    tokens: int
    asked: float
    deadline: float
    future: Future[Timed[A]]


class Engine(Generic[Q, A]):
    """Answers questions in passes of bounded size, in a thread of its own.

    Attributes:
        waiting: questions that wait.
        waiting_tokens: tokens that they cost.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Q]], Sequence[A]],
        cost: Callable[[Q], int],
        *,
        batch_tokens: int,
        queue_requests: int,
        queue_tokens: int,
        on_pass: Callable[[int, float], None] = lambda count, seconds: None,
    ) -> None:
        """Start the thread.

        Args:
            work: answers questions, in order; called by one thread only.
            cost: tokens that a question costs, at least 1; called by any thread.
            batch_tokens: tokens of a pass; a question that costs more has a pass to itself.
            queue_requests: questions that may wait.
            queue_tokens: tokens that may wait; a call that finds nobody waiting is accepted whatever it costs.
            on_pass: called with the number of questions of each pass and its seconds.
        """
        self._work, self._cost, self._on_pass = work, cost, on_pass
        self._batch_tokens, self._most, self._most_tokens = batch_tokens, queue_requests, queue_tokens
        self._lines: deque[deque[_Row[Q, A]]] = deque()
        self._jobs: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._seconds_each = 0.0
        self.waiting = self.waiting_tokens = 0
        self._thread = threading.Thread(target=self._run, name="laserrec-engine", daemon=True)
        self._thread.start()

    def submit(self, questions: Sequence[Q], deadline: float) -> list[Future[Timed[A]]]:
        """Let questions wait for their answers.

        Args:
            questions: one call's.
            deadline: when they need no answer any more, by `time.monotonic`.

        Returns:
            For each question what will hold its answer, or `DeadlineError`.

        Raises:
            RefusedError: there is no room for all of them; then none waits.
        """
        now = time.monotonic()
        line = deque(_Row[Q, A](question, self._cost(question), now, deadline, Future()) for question in questions)
        rows, tokens = list(line), sum(row.tokens for row in line)
        with self._changed:
            if self._closing:
                raise RefusedError("closing", 1)
            full: Literal["requests", "tokens"] | None = "requests" if self.waiting + len(rows) > self._most else None
            if full is None and self.waiting and self.waiting_tokens + tokens > self._most_tokens:
                full = "tokens"
            if full is not None:
                raise RefusedError(full, max(1, math.ceil(self.waiting * self._seconds_each)))
            if rows:
                self._lines.append(line)
            self.waiting, self.waiting_tokens = self.waiting + len(rows), self.waiting_tokens + tokens
            self._changed.notify()
        return [row.future for row in rows]

    def run(self, job: Callable[[], T]) -> Future[T]:
        """Call something in the engine's thread, before its next pass; what it raises is in the future."""
        future: Future[T] = Future()
        with self._changed:
            if self._closing:
                raise RefusedError("closing", 1)
            self._jobs.append((job, future))
            self._changed.notify()
        return future

    def close(self) -> None:
        """Answer what waits, refuse everything else, and end the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._lines or self._jobs or self._closing)
                if not (self._lines or self._jobs):
                    return
                job = self._jobs.popleft() if self._jobs else None
                rows = self._take(time.monotonic())
            if job is not None:
                _fulfil(job[1], job[0])
            if rows:
                self._answer(rows)

    def _take(self, now: float) -> list[_Row[Q, A]]:
        """Take the rows of the next pass: one of each line in turn, while they fit."""
        rows: list[_Row[Q, A]] = []
        tokens = 0
        while self._lines:
            line = self._lines[0]
            late, row = line[0].deadline < now, line[0]
            if rows and not late and tokens + row.tokens > self._batch_tokens:
                break
            line.popleft()
            self._lines.rotate(-1)
            if not line:
                self._lines.pop()
            self.waiting, self.waiting_tokens = self.waiting - 1, self.waiting_tokens - row.tokens
            if not row.future.set_running_or_notify_cancel():
                continue  # whoever asked has given up
            if late:
                row.future.set_exception(DeadlineError("The deadline passed before the request's turn came."))
            else:
                rows.append(row)
                tokens += row.tokens
        return rows

    def _answer(self, rows: Sequence[_Row[Q, A]]) -> None:
        begun = time.monotonic()
        try:
            answers = self._work([row.question for row in rows])
        except Exception as error:
            if len(rows) > 1:  # whatever is wrong with one question must not be the others' answer
                for row in rows:
                    self._answer([row])
                return
            if not isinstance(error, LaserrecError):  # one of ours is the answer to a question that is wrong
                logging.getLogger("laserrec.serving").exception("a pass failed")
            rows[0].future.set_exception(error)
            return
        seconds = time.monotonic() - begun
        self._seconds_each += NEW_SHARE * (seconds / len(rows) - self._seconds_each)
        self._on_pass(len(rows), seconds)
        for row, answer in zip(rows, answers, strict=True):
            row.future.set_result(Timed(answer, begun - row.asked, seconds))


def _fulfil(future: Future[Any], job: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = job()
    except Exception as error:
        future.set_exception(error)
    else:
        future.set_result(result)
