"""When a call that failed is made again, and after how long."""

from __future__ import annotations

import random
from dataclasses import dataclass

_MOST_RETRY_AFTER = 24 * 60 * 60.0


@dataclass(frozen=True)
class Retry:
    """How calls that failed are made again, where that is safe and may help. The pauses get longer each time, with
    jitter, and are never shorter than the server's Retry-After says. All times are in seconds.

    That a request is made again with the token that has replaced a refused one is not a part of it, nor counted.
    """

    elapsed: float | None = 30.0
    """How long after its beginning a call makes another request. None for any time."""
    attempts: int | None = None
    """How many requests a call makes at most. None for any number."""
    least: float = 0.02
    """The first pause."""
    most: float = 2.0
    """The longest pause, unless Retry-After is longer."""

    def __post_init__(self) -> None:
        if (self.elapsed is not None and self.elapsed < 0) or (self.attempts is not None and self.attempts < 1):
            raise ValueError(f"elapsed is {self.elapsed}, attempts {self.attempts}: they must be at least 0 and 1, or None")
        if not 0 < self.least <= self.most:
            raise ValueError(f"least is {self.least} and most {self.most}: the first must be above 0 and not above the second")

    @property
    def on(self) -> bool:
        """Whether calls are made again at all."""
        return self.attempts != 1

    def allows(self, attempts: int, elapsed: float, pause: float) -> bool:
        """Whether there may be another request after so many, after a pause."""
        return (self.attempts is None or attempts < self.attempts) and (self.elapsed is None or elapsed + pause <= self.elapsed)


DEFAULT = Retry()
NEVER = Retry(attempts=1)


class Pace:
    """How long to pause: longer each time, and never for the same time as others."""

    def __init__(self, retry: Retry) -> None:
        self.least, self.most = retry.least, retry.most
        self._step = 0.0

    def next(self, at_least: float = 0.0) -> float:
        """The next pause, which is at least as long as the server has asked for."""
        self._step = min(max(2 * self._step, self.least), self.most)
        return max(self._step / 2, min(at_least, _MOST_RETRY_AFTER)) + random.uniform(0, self._step / 2)

    def reset(self) -> None:
        """Begins again with the shortest pause: something has worked."""
        self._step = 0.0
