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


EXERCISES: dict[str, Exercise] = {
    "00.1": Exercise(
        (2.0, 4.0), "half of expert 1's output, which is the mean 4, beside half of expert 2's, which is 8"
    ),
    "00.2": Exercise(3.0, "the border between two codes of equal length is where both are equally near", 0.001),
    "00.3": Exercise(0.01024, "five independent deletions, each with probability 0.4", 0.0005),
    "00.4": Exercise(0, "draw_balance(cora) shows the means: compare the bars of stem and dense"),
    "01.1": Exercise(0.25, "the risk rises linearly with the share, from the right expert's to the wrong one's", 0.005),
    "01.2": Exercise(2.15, "nodes share neighbours: expect a factor between 1.3 and 3", 0.85),
    "01.3": Exercise("below", "a product with the context's sign sends every node to its own condition's rule"),
    "01.4": Exercise(False, "with strong features, bending the answer is worth more than reading neighbours"),
    "03.1": Exercise(
        (1.0, 2.0), "compare the best path of all with the best one that keeps expert 1 in layer 1", 0.001
    ),
    "03.2": Exercise(0.25, "on how many of the four nodes does no path give the right class?", 0.001),
    "03.3": Exercise(0.125, "the best of the three is wrong only where all three are", 0.001),
    "03.4": Exercise("coverage", "add up C and S over the conditions of data/results/03_coverage-chameleon.csv"),
    "06.1": Exercise((1.0, 0.358), "20 chances of 5 %, each missed with 95 %", 0.01),
    "06.2": Exercise(
        (0.015, 0.06, 0.06), "sort; times 3, 2 and 1; none below the one before; then back in order", 0.0005
    ),
    "06.3": Exercise("rivals", "who gains if the luckiest of several test scores is taken?"),
    "06.4": Exercise("mlp", "look for the rows `texas fixed` and `wisconsin fixed` in the table of all data sets"),
    "12.1": Exercise(3122.0, "two weights per layer, of own state and neighbours, and a row of each router with its bias"),
    "12.2": Exercise((1.0, 0.0), "take the differences seed by seed first, then their mean and their spread", 0.001),
    "12.3": Exercise(0.000505, "99 times p must stay below 0.05", 0.000005),
    "12.4": Exercise("lower", "gates are the softmax of scores over the temperature: what does a small divisor do?"),
}


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
