"""Each strategy gives targets what is theirs: within three sigma where chance decides, exactly where it does not."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from math import sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.http.upstreams.balancing import STRATEGIES, LeastConnections, Random, RoundRobin, WeightedRoundRobin


@dataclass(eq=False)
class Target:
    weight: int = 1
    credit: int = 0
    active: int = 0


weights = st.lists(st.integers(1, 20), min_size=1, max_size=8)


def test_the_names_are_those_of_the_configuration():
    assert set(STRATEGIES) == {"round_robin", "weighted_round_robin", "least_connections", "random"}


@given(st.integers(1, 10), st.integers(0, 100), st.floats(0, 1, exclude_max=True))
def test_round_robin_gives_each_its_turn(count, turns, start):
    targets = [Target() for _ in range(count)]
    strategy = RoundRobin(lambda: start)
    picked = Counter(id(strategy.pick(targets)) for _ in range(turns))
    assert sum(picked.values()) == turns
    assert max(picked.values(), default=0) - min((picked[id(t)] for t in targets), default=0) <= 1


@given(st.data())
def test_round_robin_survives_targets_that_come_and_go(data):
    targets = [Target() for _ in range(6)]
    strategy = RoundRobin(random.random)
    for _ in range(30):
        some = data.draw(st.lists(st.sampled_from(targets), min_size=1, unique_by=id))
        assert strategy.pick(some) in some


@given(weights)
def test_weighted_round_robin_is_exact_over_each_full_round(values):
    targets = [Target(weight) for weight in values]
    strategy = WeightedRoundRobin(random.random)
    for _ in range(3):
        picked = Counter(id(strategy.pick(targets)) for _ in range(sum(values)))
        assert [picked[id(target)] for target in targets] == values


def test_weighted_round_robin_is_smooth():
    a, b, c = Target(5), Target(1), Target(1)
    strategy = WeightedRoundRobin(random.random)
    picked = [strategy.pick([a, b, c]) for _ in range(7)]
    assert "".join("abc"[[a, b, c].index(target)] for target in picked) == "aabacaa"


@given(weights, st.integers())
def test_random_follows_the_weights_within_its_chance(values, seed):
    targets = [Target(weight) for weight in values]
    strategy = Random(random.Random(seed).random)
    turns = 2000
    picked = Counter(id(strategy.pick(targets)) for _ in range(turns))
    for target in targets:
        share = target.weight / sum(values)
        sigma = sqrt(turns * share * (1 - share))
        assert abs(picked[id(target)] - turns * share) <= 6 * sigma + 1  # hundreds of examples: three would be too few


@pytest.mark.parametrize("name", ["random", "least_connections", "round_robin", "weighted_round_robin"])
def test_every_strategy_is_within_three_sigma_of_even_for_equal_targets(name):
    targets = [Target() for _ in range(4)]
    strategy = STRATEGIES[name](random.Random(7).random)
    picked = Counter(id(strategy.pick(targets)) for _ in range(4000))
    assert all(abs(picked[id(target)] - 1000) <= 3 * sqrt(4000 * 0.25 * 0.75) for target in targets)


@given(st.lists(st.integers(0, 50), min_size=2, max_size=8), st.integers())
def test_least_connections_never_takes_the_busiest_alone(loads, seed):
    targets = [Target(active=load) for load in loads]
    strategy = LeastConnections(random.Random(seed).random)
    busiest = max(loads)
    for _ in range(50):
        if strategy.pick(targets).active == busiest:
            assert loads.count(busiest) > 1


@given(st.integers())
def test_least_connections_keeps_loads_close(seed):
    chance = random.Random(seed)
    targets = [Target() for _ in range(10)]
    strategy = LeastConnections(chance.random)
    for _ in range(1000):  # requests that never end: the hardest case
        strategy.pick(targets).active += 1
    loads = [target.active for target in targets]
    assert max(loads) - min(loads) <= 15


@given(st.integers())
def test_least_connections_respects_weights(seed):
    light, heavy = Target(1), Target(4)
    strategy = LeastConnections(random.Random(seed).random)
    for _ in range(500):
        strategy.pick([light, heavy]).active += 1
    assert 3.5 <= heavy.active / light.active <= 4.5
