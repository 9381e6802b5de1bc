"""The report card's later answers: what is stable, what is at risk, what to freeze, and what to watch."""

from __future__ import annotations

from typing import Any

from stemlib.audit.found import Found
from stemlib.audit.measure import SHARE, Certified
from stemlib.audit.risk import LEAST
from stemlib.audit.trainings import SELECTED
from stemlib.report import words
from stemlib.report.page import Answer
from stemlib.report.words import listed, mean, the
from stemlib.stress.shifts import in_words


def stable(found: Found) -> Answer:
    """Which share keeps its answer: as observed, and as proved."""
    test = found.risk[found.risk.part == "test"]
    steady = int((test.flips == 0).sum())
    draws = f"in every draw of damage ({100 * SHARE:.0f} % of the features, or of the edges, missing)"
    answers = test.answer.map(str)
    said = []
    if not found.task.regression:
        low, high = Certified("", steady, len(test)).interval
        said.append(
            f"{the(found.chosen)} keeps its decision for {steady} of {len(test)} test {words.KINDS[found.task.kind]} "
            f"({100 * steady / len(test):.1f} % [{100 * low:.1f}, {100 * high:.1f}]), {draws}. That was observed; it "
            f"is no guarantee."
        )
        if answers.nunique() == 1:
            said.append("It gives all of them the same answer, so keeping it says little.")
    else:
        said.append(f"The numbers of {the(found.chosen)} change by {test.flips.mean():.3g} on average under damage.")
    for one in found.certified:
        if one.refused:
            why = one.refused.removeprefix(f"{found.task.name}: ").removesuffix(": smooth instead")
            said.append(f"No certificate against one {one.budget}: {why}.")
            continue
        low, high = one.interval
        said.append(
            f"It is proved that no single {one.budget} can change the answer of the routed network for "
            f"{100 * one.held / one.asked:.1f} % [{100 * low:.1f}, {100 * high:.1f}] of {one.asked} test nodes. The "
            f"bound is cautious: others may be as stable."
        )
    return Answer(
        "Which share of predictions is stable, and for which is it proved?", said, "stable",
        "Share of test instances that kept their answer in every draw, and that are certified.",
    )  # fmt: skip


def risk(found: Found) -> Answer:
    """Which signals find the instances that fail."""
    said, table = [], found.signals
    for failure, words_of in (("error", "errors"), ("flip", "changes under damage")):
        rows = table[(table.failure == failure) & table.signal.isin(words.SIGNALS)]
        val, test = (rows[rows.part == part].set_index("signal") for part in ("val", "test"))
        if val.empty or test.empty:
            said.append(f"There were fewer than {LEAST} {words_of} on validation or test: too few to judge.")
            continue
        best = val.auroc.idxmax()
        row = test.loc[best]
        useless = [words.SIGNALS[name] for name in test.index if test.low[name] <= 0.5 <= test.high[name]]
        turned = [words.SIGNALS[name] for name in test.index if test.high[name] < 0.5]
        line = (
            f"On validation the {words.SIGNALS[best]} found {words_of} best. On test its AUROC is {row.auroc:.2f} "
            f"[{row.low:.2f}, {row.high:.2f}]; 0.5 is chance."
        )
        line += f" No better than chance: {listed(useless)}." if useless else ""
        said.append(line + (f" Worse than chance, in reverse order: {listed(turned)}." if turned else ""))
    rows = found.risk[found.risk.part == "test"]
    wrong = rows.wrong.astype(float)
    if len(rows) >= 20 and (wrong > 0).sum() >= LEAST:
        first = wrong.iloc[: max(1, len(rows) // 5)].sum() / wrong.sum()
        errors = "all error" if found.task.regression else "the errors"
        said.append(
            f"The first fifth of the test {words.KINDS[found.task.kind]} in risk.csv (sorted by "
            f"the {words.SIGNALS.get(found.signal, found.signal)}) has {100 * first:.0f} % of {errors}; by chance it "
            f"would have 20 %."
        )
    return Answer(
        f"Which {words.KINDS[found.task.kind]} are at risk?", said, "risk",
        "How well each column of the risk table finds errors and changes on test, with intervals.",
    )  # fmt: skip


def choice(found: Found) -> Answer:
    """Which model to freeze, and why."""
    if len(found.methods) == 1:
        return Answer("Which model should be frozen?", ["You brought the model: there was no choice."], "choice", "")
    val = {name: found.of(name, "clean", value="val") for name in found.methods}
    others = [name for name in found.level if name != found.chosen]
    said = [f"Freeze {the(found.chosen)}; it is saved in frozen/. Its validation score is {mean(val[found.chosen])}."]
    if found.useless:
        said.insert(0, "None of them, as long as the most frequent answer is as good. If there must be one:")
    if found.chosen == SELECTED:
        said.append("It was put together on the same validation part, so this score flatters it a little.")
    met = "all shifts and damage" if (found.scores.kind == "shift").any() else "all damage"
    if others:
        said.append(
            f"On validation {listed([the(name) for name in others])} cannot be distinguished from it. Among these it "
            f"has the best sum of validation score and mean under {met}. These means come from test "
            f"{words.KINDS[found.task.kind]}, which favours it a little."
        )
    behind = [name for name in found.methods if name not in found.level]
    if behind:
        sure = "Reliably behind" if len(val[found.chosen]) > 1 else "Behind"
        said.append(f"{sure} on validation: {listed([the(name) for name in behind])}.")
    return Answer(
        "Which model should be frozen?", said, "choice",
        "Every model's validation score against its mean score under shift and damage.",
    )  # fmt: skip


def _between(row: Any) -> str:
    """The interval of a rise; a single training has none."""
    return f"[{100 * row.low:.1f}, {100 * row.high:.1f}]" if row.low == row.low else "(a single model: no interval)"


def watch(found: Found) -> Answer:
    """Which covariates move the error, and when to worry."""
    rows, said = found.watch[found.watch.alarm.notna()], []
    for row in rows.sort_values("rise", ascending=False).itertuples():
        side = "below" if row.end == "low" else "above"
        unit = "standard deviations of the error" if found.task.regression else "points"
        scale = 1 if found.task.regression else 100
        said.append(
            f"{in_words(row.covariate)}: {side} {row.border:.3g} the error is "
            f"{scale * row.rise:.1f} {unit} higher [{scale * row.low:.1f}, {scale * row.high:.1f}]. "
            f"{100 * row.share:.0f} % of the {words.KINDS[found.task.kind]} lie there; look closer when "
            f"it is more than {100 * row.alarm:.0f} %."
        )
    for row in found.damage[found.damage.alarm.notna()].itertuples():
        unit = "points of R²" if found.task.regression else "points"
        said.append(
            f"{row.covariate}, {row.border:.3g} on average: with {100 * row.alarm:.0f} % of them left the score is "
            f"{100 * row.rise:.1f} {unit} lower {_between(row)}. Look closer when fewer are left."
        )
    if rows.empty:
        said.append(
            "No covariate has an alarm: at no end of one is the error reliably so high that drift could cost a point."
        )
    moved = set(rows.covariate)
    calm = [in_words(name) for name in found.watch.covariate.unique() if name not in moved]
    if calm and moved:
        said.append(f"No reliable cost of a point was measured for {listed(calm)}; that does not make drift harmless.")
    said.append(
        "To compare a later graph with this one, give the folder of this report: "
        "python -m stemlib.report NEW_GRAPH --watch FOLDER"
    )
    return Answer(
        "What should be watched?", said, "watch", "How much larger the error is at each end of every covariate."
    )
