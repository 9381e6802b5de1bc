"""The chapters' exercises: what is expected, how near an answer must come, and a hint for the one that misses.

A chapter asks in words and leaves a blank; `notebooks/solutions` computes every answer and passes the same check.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

RIGHT = "right"


@dataclass(frozen=True)
class Exercise:
    """What an exercise expects.

    Args:
        expected: a number, several of them in order, a truth, or a word (capitals do not matter).
        hint: what to try after a wrong answer.
        within: how far every number may lie off.
    """

    expected: float | tuple[float, ...] | bool | str
    hint: str
    within: float = 0.0


EXERCISES: dict[str, Exercise] = {}


def check(number: str, answer: object) -> str:
    """Say whether an answer is `left blank`, `right`, or `not yet`, with a hint.

    Args:
        number: of the exercise, such as `03.1`.
        answer: of the kind that the exercise expects; `...` is a blank.

    Raises:
        ValueError: there is no such exercise.
    """
    if number not in EXERCISES:
        raise ValueError(f"there is no exercise {number!r}; there are {', '.join(sorted(EXERCISES))}")
    if answer is ...:
        return "left blank"
    exercise = EXERCISES[number]
    return RIGHT if _answers(answer, exercise) else f"not yet: {exercise.hint}"


def _answers(answer: object, exercise: Exercise) -> bool:
    expected = exercise.expected
    if isinstance(expected, str):
        return isinstance(answer, str) and answer.strip().casefold() == expected.casefold()
    try:
        given, wanted = np.asarray(answer), np.asarray(expected)
    except (TypeError, ValueError, RuntimeError):  # a ragged list, a tensor that is on a GPU or has a gradient
        return False
    if wanted.dtype == bool or given.dtype == bool:  # 1 is no truth, and True no number
        return given.dtype == wanted.dtype and given.shape == wanted.shape and bool((given == wanted).all())
    if given.dtype.kind not in "iuf" or given.shape != wanted.shape:
        return False
    return bool((np.abs(given - wanted) <= exercise.within + 1e-12).all())
