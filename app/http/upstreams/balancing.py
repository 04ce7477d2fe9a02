"""Which target is next. Pure: randomness is an argument, and so is the load.

- *round robin*: each in turn.
- *weighted round robin*, the smooth one: per turn every target gains its weight, the richest is taken and pays the sum.
  So weights 5, 1, 1 give a a b a c a a, never a a a a a b c.
- *least connections* by the power of two choices: of two random targets the one with fewer requests per weight. The
  least busy of all would be everybody's choice at once, in every replica.
- *random*, by weight: no neighbour inherits the turns of a target that is left out.

A strategy is given the candidates anew each time, so it holds nothing about targets that come and go but what
weighted round robin keeps on them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

__all__ = ["STRATEGIES", "LeastConnections", "Random", "RoundRobin", "Strategy", "Weighable", "WeightedRoundRobin"]


class Weighable(Protocol):
    """What a strategy looks at."""

    weight: int
    credit: int
    """What weighted round robin keeps: begin with 0."""

    @property
    def active(self) -> int:
        """Requests that it has now."""


T = TypeVar("T", bound=Weighable)


class Strategy(Protocol):
    """Takes one of at least one candidates."""

    def pick(self, candidates: Sequence[T]) -> T: ...


class RoundRobin:
    """Each in turn, whatever the weights."""

    def __init__(self, random: Callable[[], float]) -> None:
        """``random`` gives numbers from 0 up to 1; here it decides who begins, so that replicas don't march in step."""
        self._random = random
        self._turn: int | None = None

    def pick(self, candidates: Sequence[T]) -> T:
        count = len(candidates)
        turn = int(self._random() * count) if self._turn is None else self._turn
        turn = turn if turn < count else 0
        self._turn = turn + 1
        return candidates[turn]


class WeightedRoundRobin:
    """In turn by weight, smoothly."""

    def __init__(self, random: Callable[[], float]) -> None:
        pass

    def pick(self, candidates: Sequence[T]) -> T:
        total = 0
        best = candidates[0]
        for target in candidates:
            total += target.weight
            target.credit += target.weight
            if target.credit > best.credit:
                best = target
        best.credit -= total
        return best


class LeastConnections:
    """The less busy of two."""

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random

    def pick(self, candidates: Sequence[T]) -> T:
        count = len(candidates)
        if count == 1:
            return candidates[0]
        first = int(self._random() * count)
        second = int(self._random() * (count - 1))
        second += second >= first  # never the same one twice
        a, b = candidates[first], candidates[second]
        return a if (a.active + 1) * b.weight <= (b.active + 1) * a.weight else b


class Random:
    """Any, by weight."""

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random

    def pick(self, candidates: Sequence[T]) -> T:
        point = self._random() * sum(target.weight for target in candidates)
        for target in candidates:
            point -= target.weight
            if point < 0:
                return target
        return candidates[-1]


STRATEGIES: dict[str, Callable[[Callable[[], float]], Strategy]] = {
    "round_robin": RoundRobin,
    "weighted_round_robin": WeightedRoundRobin,
    "least_connections": LeastConnections,
    "random": Random,
}
"""By their names in the configuration."""
