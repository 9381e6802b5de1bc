"""The chapters' exercises: what is expected, how near an answer must come, and a hint for an answer that misses.

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
        expected: a number, several of them in order, a truth value, or a word (capitals do not matter).
        hint: what to try after a wrong answer.
        within: how far off every number may be.
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
    "02.1": Exercise(-0.2, "class 1 has five sixths of all degrees; two of three edges join equals", 0.001),
    "02.2": Exercise("minesweeper", "sort the node tasks by edge homophily less adjusted homophily"),
    "02.3": Exercise(False, "look for the row `texas fixed` in the table of results"),
    "02.4": Exercise("splits", "compare the two standard deviations in Cora's rows"),
    "03.1": Exercise(
        (1.0, 2.0), "compare the best path of all with the best one that keeps expert 1 in layer 1", 0.001
    ),
    "03.2": Exercise(0.25, "on how many of the four nodes does no path give the right class?", 0.001),
    "03.3": Exercise(0.125, "the best of the three is wrong only where all three are", 0.001),
    "03.4": Exercise("coverage", "add up C and S over the conditions of data/results/03_coverage-chameleon.csv"),
    "04.1": Exercise("base", "what does a router read: a node's own state, or its neighbours'?"),
    "04.2": Exercise(
        (1.0, 0.5), "gates become (3/4, 1/4); subtract the output with the old gates from the new one", 0.001
    ),
    "04.3": Exercise(0.462, "the bound is attained by two experts: tanh of a quarter of the move", 0.002),
    "04.4": Exercise(1.0, "code and query move equally far", 0.001),
    "06.1": Exercise((1.0, 0.358), "20 chances of 5 %, each missed with 95 %", 0.01),
    "06.2": Exercise(
        (0.015, 0.06, 0.06), "sort; times 3, 2 and 1; none below the one before; then back in order", 0.0005
    ),
    "06.3": Exercise("rivals", "who gains if the luckiest of several test scores is taken?"),
    "06.4": Exercise("mlp", "look for the rows `texas fixed` and `wisconsin fixed` in the table of all data sets"),
    "07.1": Exercise(2.0, "the risk is (1 - b)^2 + 4 b^2 / d, with b = 2 / 3", 0.05),
    "07.2": Exercise(1.0, "both of its nodes are ends of the path", 0.001),
    "07.3": Exercise((800, 600, 600), "there are 2,000 nodes; each tail has three tenths of them"),
    "08.1": Exercise(
        (1000, 200, 200, 200), "`counts` of what the call returns: 2,000 nodes in tenths, and half of them"
    ),
    "08.2": Exercise(0.5, "put 1 for the ratio of the squares", 0.001),
    "08.3": Exercise("OOD-high", "where are a node's own features like its neighbours'?"),
    "09.1": Exercise((1.0, 2.0), "all slopes of the loss are now alike: the larger entry counts", 0.001),
    "09.2": Exercise(0.216, "three independent draws, each of which spares an entry with probability 0.6", 0.001),
    "09.3": Exercise(10, "a word that a node does not have is no candidate there"),
    "10.1": Exercise(4, "the edge 2-3 now has a tested end"),
    "10.2": Exercise(2, "what would help the network is left alone"),
    "10.3": Exercise(False, "what does a router read, and which state of a node is there before any message?"),
    "11.1": Exercise(2, "which methods does E beat, and who beats B?"),
    "11.2": Exercise((80.0, 85.0), "take the worse tail of every seed, then the mean; then the other way round", 0.01),
    "11.3": Exercise(False, "what does an MLP read?"),
    "12.1": Exercise(
        3122.0, "two weights per layer, of own state and neighbours, and a row of each router with its bias"
    ),
    "12.2": Exercise((1.0, 0.0), "take the differences seed by seed first, then their mean and their spread", 0.001),
    "12.3": Exercise(0.000505, "99 times p must stay below 0.05", 0.000005),
    "12.4": Exercise("lower", "gates are the softmax of scores over the temperature: what does a small divisor do?"),
    "13.1": Exercise(3, "sort; times 4, 3, 2 and 1; none below the one before"),
    "13.2": Exercise(1.54, "the expected largest of ten standard normal values; draw some", 0.05),
    "13.3": Exercise((3.0, 1.01), "weights are one over the squared error: 100 and a quarter", 0.01),
    "15.1": Exercise((0.0714, 0.75), "six points of 84, and six points of the eight above 76", 0.001),
    "15.2": Exercise(0.3, "every further tenth of the nodes beyond the border costs a tenth of 10 points", 0.001),
    "15.3": Exercise(0.4375, "count node degrees below 11 in what `delete_edges` returns for 0.25", 0.002),
    "16.1": Exercise(0.0578, "four gates are averaged, and only b's own falls from 0.731 to one half", 0.002),
    "16.2": Exercise(3.6, "how many intervals are there, and how often does one of them miss the truth?", 0.01),
    "16.3": Exercise("hash", "compare the column `masked` of uniform, frozen, one expert and hash"),
    "17.1": Exercise(1.0, "hold the third network's loss against that of the pair", 0.001),
    "17.2": Exercise((0.041, 0.060), "means over three seeds by method; C of routed less that of filters", 0.001),
    "17.3": Exercise(8, "the scores of both agree to the last digit, in every seed and condition"),
    "14.1": Exercise(
        (3.0, 1.0), "node 3 reads itself, node 2 and now node 0; which states does the last layer ask for?"
    ),
    "14.2": Exercise(1.204, "a slope is a ratio of logarithms", 0.005),
    "14.3": Exercise(79.6, "1,433 products per unit against those of the words that are there", 0.5),
    "14.4": Exercise("ours", "compare the two rows of `evaluate_gflop`"),
    "05.1": Exercise((0.00125, 0.0244), "weights times nodes, or times their square roots, as shares", 0.0005),
    "05.2": Exercise(69.0, "after n steps 0.99 to the power n is left", 0.6),
    "05.3": Exercise(1.755, "perplexity is the exponential of the entropy in nats", 0.005),
    "05.4": Exercise("own", "compare their rows of frozen tokens in the table of variants"),
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
    if wanted.dtype == bool or given.dtype == bool:  # 1 is not a truth value, nor True a number
        return given.dtype == wanted.dtype and given.shape == wanted.shape and bool((given == wanted).all())
    if given.dtype.kind not in "iuf" or given.shape != wanted.shape:
        return False
    return bool((np.abs(given - wanted) <= exercise.within + 1e-12).all())
