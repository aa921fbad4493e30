"""The judge is judged: by histories that are known to be good or bad, and by trying every order."""

from __future__ import annotations

import itertools
import os
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.linearizability import NEVER, Answer, Operation, Value, judge

LONG = bool(os.environ.get("NETLOOM_TEST_LONG"))
YES, NO, NONE = Answer


def read(called: float, answered: float, value: Value, key: str = "k") -> Operation:
    return Operation(called, answered, key, True, None, value)


def swap(called: float, answered: float, old: Value, new: Value, answer: Answer = YES, key: str = "k") -> Operation:
    return Operation(called, NEVER if answer is NONE else answered, key, False, old, new, answer)


GOOD = {
    "nothing happened": [],
    "one after the other": [swap(0, 1, None, "a"), read(2, 3, "a"), swap(4, 5, "a", None), read(6, 7, None)],
    "a read beside a write finds the old value": [swap(0, 10, None, "a"), read(1, 2, None), read(3, 4, "a")],
    "of two at once one wins": [swap(0, 10, None, "a"), swap(1, 9, None, "b", NO), read(11, 12, "a")],
    "the loser is answered first": [swap(0, 10, None, "a"), swap(1, 2, None, "b", NO)],
    "a write without an answer has happened": [swap(0, 0, None, "a", NONE), read(1, 2, "a")],
    "and much later": [swap(0, 0, None, "a", NONE), read(1, 2, None), read(3, 4, "a")],
    "or never": [swap(0, 0, None, "a", NONE), read(1, 2, None), swap(3, 4, None, "b"), read(5, 6, "b")],
    "it stood in the way of another": [swap(0, 0, None, "a", NONE), swap(1, 2, None, "b", NO)],
    "keys have nothing to do with each other": [swap(0, 1, None, "a"), read(2, 3, None, "other")],
}
BAD = {
    "a read of what nobody wrote": [read(0, 1, "a")],
    "a write that was lost": [swap(0, 1, None, "a"), read(2, 3, None)],
    "an old value after a new one": [swap(0, 1, None, "a"), swap(2, 3, "a", "b"), read(4, 5, "a")],
    "back and forth": [swap(0, 10, None, "a"), read(1, 2, "a"), read(3, 4, None)],
    "two who both won": [swap(0, 10, None, "a"), swap(1, 9, None, "b")],
    "two who both lost": [swap(0, 10, None, "a", NO), swap(1, 9, None, "b", NO)],
    "who was refused has written all the same": [swap(0, 1, None, "z"), swap(2, 3, None, "a", NO), read(4, 5, "a")],
    "a value from the future": [read(0, 1, "a"), swap(2, 3, None, "a")],
    "a write without an answer that happened twice": [
        *(swap(0, 0, None, "a", NONE), read(1, 2, "a")),
        *(swap(3, 4, "a", None), read(5, 6, "a")),
    ],
    "one bad key among good ones": [swap(0, 1, None, "a"), read(2, 3, "a"), read(2, 3, "b", "other")],
}


@pytest.mark.parametrize("name", GOOD)
def test_a_good_history_is_good(name: str) -> None:
    assert judge(GOOD[name])


@pytest.mark.parametrize("name", BAD)
def test_a_bad_history_is_bad_and_says_where(name: str) -> None:
    verdict = judge(BAD[name])
    assert not verdict
    assert "can be put in order" in str(verdict)


def by_every_order(history: list[Operation]) -> bool:
    """What linearizable means, word for word: operations without an answer are left out or have no end."""
    owed = [o for o in history if o.answer is not NONE]
    unknown = [o for o in history if o.answer is NONE]
    for count in range(len(unknown) + 1):
        for chosen in itertools.combinations(unknown, count):
            for order in itertools.permutations([*owed, *chosen]):
                if any(b.answered < a.called for a, b in itertools.combinations(order, 2)):
                    continue
                value: Value = None
                for operation in order:
                    if operation.read or operation.answer is NO:
                        fits = value == operation.new if operation.read else value != operation.old
                    else:
                        fits = value == operation.old
                        value = operation.new
                    if not fits:
                        break
                else:
                    return True
    return False


times = st.tuples(st.integers(0, 12), st.integers(1, 6)).map(lambda t: (float(t[0]), float(t[0] + t[1])))
values = st.sampled_from([None, "a", "b"])
operations = st.one_of(
    st.builds(lambda t, v: read(*t, v), times, values),
    st.builds(lambda t, old, new, answer: swap(*t, old, new, answer), times, values, values, st.sampled_from(Answer)),
)


@settings(max_examples=3000 if LONG else 300, deadline=None)
@given(st.lists(operations, max_size=5))
def test_it_says_what_trying_every_order_says(history: list[Operation]) -> None:
    assert bool(judge(history)) is by_every_order(history)


def lived(seed: int, clients: int = 6, turns: int = 40) -> list[Operation]:
    """What clients of a real register see, each with its own delays; some never hear of what they did."""
    chance = random.Random(seed)
    register: dict[str, Value] = {}
    moments: list[tuple[float, int]] = sorted(
        (chance.uniform(0, 100), client) for client in range(clients) for _ in range(turns)
    )
    known: dict[tuple[int, str], Value] = {}
    history = []
    for number, (moment, client) in enumerate(moments):
        key = chance.choice("kl")
        called, answered = moment - chance.expovariate(1), moment + chance.expovariate(1)
        old = known.get((client, key))
        if chance.random() < 0.5:
            known[client, key] = register.get(key)
            history.append(read(called, answered, register.get(key), key))
            continue
        new = None if chance.random() < 0.2 else f"v{number}"
        fits, deaf = register.get(key) == old, chance.random() < 0.05
        if fits and not (deaf and chance.random() < 0.5):
            register[key] = new
        history.append(swap(called, answered, old, new, NONE if deaf else YES if fits else NO, key))
    return history


@pytest.mark.parametrize("seed", range(60 if LONG else 8))
def test_what_a_real_register_answers_is_good_and_a_lie_in_it_is_found(seed: int) -> None:
    history = lived(seed)
    assert judge(history), seed
    chance = random.Random(seed)
    reads = [i for i, o in enumerate(history) if o.read and o.new is not None]
    lie = chance.choice(reads)
    history[lie] = history[lie]._replace(new="nobody wrote this")
    assert not judge(history)


def test_thousands_of_operations_are_judged_in_a_moment() -> None:
    history = [operation._replace(key=f"{operation.key}-{seed}") for seed in range(30) for operation in lived(seed)]
    assert judge(history).operations == 7200
