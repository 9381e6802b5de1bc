"""The report card's answers: every sentence is built from the numbers that it states."""

from __future__ import annotations

import torch

from stemlib.audit.found import Found
from stemlib.audit.measure import ATTACKED, MAJORITY, SHARE, spared
from stemlib.audit.statistics import Difference
from stemlib.audit.trainings import SELECTED
from stemlib.report import words
from stemlib.report.advice import choice, risk, stable, watch
from stemlib.report.page import Answer
from stemlib.report.words import listed, mean, the, who

FEW_CLASSES = 60.0  # per cent of one answer from which on scores say little
LOSS = 0.005  # nats of a loss from which on it is taken apart in a sentence
LEAD = 1.0  # points from which on another model is worth a word
SURE = 20  # instances of the rarer answer, below which a score hangs on few
PARTS = {"dC": "coverage", "dS": "selection", "dX": "mixing"}
MEANS = {
    "dC": "even the best experts fit these instances worse: more, or more diverse, experts may help",
    "dS": "some experts fit these instances, but the router picks others: another router may help",
    "dX": "the mixed experts spoil each other's answers: fewer at a time may help",
}


def answers(found: Found) -> list[Answer]:
    """All of them, in the order of the page."""
    return [_fit(found), _losses(found), _parts(found), stable(found), risk(found), choice(found), watch(found)]


def _fit(found: Found) -> Answer:
    task, scores = found.task, {name: found.of(name, "clean") for name in (*found.methods, MAJORITY)}
    best = found.chosen
    many = f"mean of {len(scores[best])} trainings, 95 % interval" if len(scores[best]) > 1 else "one model"
    chosen = ", recommended below," if len(found.methods) > 1 else ""
    said = [
        f"On test {words.KINDS[task.kind]} {the(best)}{chosen} scores {mean(scores[best])} "
        f"({words.METRICS[task.metric]}; {many}). Always giving {the(MAJORITY)} scores {mean(scores[MAJORITY])}."
    ]
    if found.useless:
        said.append("It is not reliably better than that: do not use it.")
    if task.metric == "accuracy" and scores[MAJORITY].mean() >= FEW_CLASSES:
        balanced = mean(found.of(best, "clean", value="balanced"))
        said.append(
            f"{scores[MAJORITY].mean():.0f} % of the test labels are one class. A model that falls back to that class "
            f"under damage loses little, so flat curves below are no proof that it is robust. Averaged over classes, "
            f"{the(best)} recalls {balanced} % ({100 / task.outputs:.0f} is chance)."
        )
    graph = [name for name in found.methods if name not in ("mlp", SELECTED)]  # a selection may consist of MLPs
    if "mlp" in scores and graph:
        rival = max(graph, key=lambda name: found.of(name, "clean", value="val").mean())
        lead = Difference(scores[rival] - scores["mlp"], found.overlap)
        verdict = {
            1: "The graph is needed",
            0: "Whether the graph is needed is unclear",
            -1: "The graph does harm here",
        }[lead.sign]
        verdict = verdict if lead.known else "With a single training there is no interval"
        side = "higher" if lead.mean > 0 else "lower"
        said.append(f"{verdict}: {the(rival)} scores {lead.size} points {side} than an MLP, which sees features alone.")
    top = max(found.methods, key=lambda name: scores[name].mean())
    lead = Difference(scores[top] - scores[best], found.overlap)
    if lead.sign > 0 or lead.mean >= LEAD / 2:
        sure = "reliably" if lead.sign > 0 else "though not reliably"
        said.append(f"The best on test is {the(top)}, {sure}: {lead.text} points. The choice was not made on test.")
    said += _given_away(found) + _of_two_answers(found)
    level = [name for name in found.methods if name != best]
    level = [name for name in level if Difference(scores[best] - scores[name], found.overlap).sign == 0]
    if level and len(scores[best]) > 1:
        said.append(f"On test it is not distinguishable from {listed([the(name) for name in level])}.")
    asked = "How well does it fit, and is the graph needed?" if "mlp" in scores and graph else "How well does it fit?"
    return Answer(
        asked, said, "fit",
        "Test score of every model with its interval; a line marks the most frequent answer.",
    )  # fmt: skip


def _given_away(found: Found) -> list[str]:
    """For links: the score without those that also occur in training, with the same label."""
    rest = found.of(found.chosen, "filtered")
    if rest.empty:
        return []
    return [
        f"Training gives some test pairs away: they occur there with the same label. On the others it scores "
        f"{mean(rest)}, {the(MAJORITY)} {mean(found.of(MAJORITY, 'filtered'))}."
    ]


def _of_two_answers(found: Found) -> list[str]:
    """For binary labels: how rare the rarer answer is, and how few decide the score."""
    task, test = found.task, found.risk.index[found.risk.part == "test"]
    if task.labels.dim() == 1 or task.regression:
        return []
    labels = task.labels[torch.tensor(test.to_numpy())]
    share, few = float((labels > 0).sum() / labels.isfinite().sum()), int((labels > 0).sum(0).min())
    said = [f"{100 * share:.1f} % of the test labels are 1."]
    if few < SURE:
        said.append(f"Only {few} test {words.KINDS[task.kind]} have the rarer answer: the score hangs on these few.")
    return said


def _losses(found: Found) -> Answer:
    losses = {}
    for kind, condition, base in found.met():
        change = found.of(found.chosen, kind, condition) - found.of(found.chosen, base)
        losses[kind, condition, base] = Difference(change, found.overlap if kind in words.DAMAGE else 0.0)
    said = []
    shifts = {key: lost for key, lost in losses.items() if key[0] == "shift"}
    if shifts:
        trained = f"Without having been trained on them, the model ({the(found.chosen)})"
        trained = trained if len(found.methods) > 1 else "It"
        ordered = sorted(shifts.items(), key=lambda item: item[1].mean)
        told = [
            f"{'gains' if lost.mean > 0 else 'loses'} {lost.size} points on {who(found.task, key[1])}"
            for key, lost in ordered
            if lost.sign or not lost.known
        ]
        unsure = [f"{who(found.task, key[1])} ({lost.text})" for key, lost in ordered if not lost.sign and lost.known]
        usual = "ordinary" if next(iter(shifts))[2] == "inside" else "all test"
        ordinary = f"compared with {usual} {words.KINDS[found.task.kind]}"
        if told:
            said.append(f"{trained} {listed(told)}, {ordinary}.")
        if unsure:
            said.append(f"No reliable change in points, {ordinary}: {listed(unsure)}.")
    said += [f"{note}." for note in found.notes if note.startswith(("no shift to", "shifts were not"))]
    for damage, missing in words.DAMAGE.items():
        key = next((key for key in losses if key[0] == damage and key[1] == f"{damage} {SHARE:g}"), None)
        if key:
            worst = found.scores[(found.scores.kind == damage)].rate.max()
            end = found.of(found.chosen, damage, f"{damage} {worst:g}")
            lost = losses[key]
            verb = f"it {'gains' if lost.mean > 0 else 'loses'} {lost.size} points"
            verb = verb if lost.sign or not lost.known else f"its score does not change reliably ({lost.text} points)"
            said.append(
                f"With {100 * SHARE:.0f} % of {missing} missing around the tested {words.KINDS[found.task.kind]} "
                f"{verb}; with {100 * worst:.0f} % it scores {mean(end)}, {the(MAJORITY)} "
                f"{mean(found.of(MAJORITY, 'clean'))}."
            )
    for damage, rows in found.worst.groupby("kind", sort=False):
        attacked, random = rows.set_index("seed").score, found.of(found.chosen, damage, f"{damage} {ATTACKED:g}")
        said.append(
            f"When an adversary who knows the model and the labels removes {100 * ATTACKED:.0f} % of "
            f"{words.DAMAGE[damage]}, it scores {mean(attacked)}; with as much missing at random, {mean(random)}. A "
            f"stronger search may find worse."
        )
    for damage, missing in words.DAMAGE.items():
        if why := spared(found.task, damage):
            said.append(f"No adversary was tried on {missing}: {why}.")
    for key, lost in losses.items():
        if key[0] == "other graph":
            value = mean(found.of(found.chosen, key[0], key[1]))
            constant = mean(found.of(MAJORITY, key[0], key[1]))
            said.append(
                f"On the graph {key[1]} it scores {value} ({lost.text} points from its own test; {the(MAJORITY)}: "
                f"{constant})."
            )
    said += _ahead(found)
    return Answer(
        "What does it lose under shift and damage?", said, "losses",
        "Score against the share of missing features and of missing edges, and in the tails that training did not see.",
    )  # fmt: skip


def _ahead(found: Found) -> list[str]:
    """Where another model is reliably better than the chosen one."""
    better = []
    for kind, condition, _ in found.met():
        ours = found.of(found.chosen, kind, condition)
        for name in found.methods:
            lead = Difference(found.of(name, kind, condition) - ours, found.overlap if kind in words.DAMAGE else 0.0)
            if name != found.chosen and lead.sign > 0 and lead.mean > LEAD:
                where = "with" if kind in words.DAMAGE else "on"
                better.append(f"{the(name)} {where} {who(found.task, condition)} ({lead.text})")
    if len(found.methods) < 2 or len(found.scores.seed.unique()) < 2:
        return []
    if not better:
        return [
            f"No other model is reliably more than {LEAD:.0f} point better than {the(found.chosen)} in any of this."
        ]
    return [f"Reliably better than it: {'; '.join(better)}."]


def _parts(found: Found) -> Answer:
    table, said, largest_in, risen = found.decomposition, [], {}, set()
    if table.empty:
        why = "a regression has no such decomposition" if found.task.regression else "this model routes nothing"
        said.append(f"Not measured: {why}.")
    elif found.chosen != "routed":
        said.append(f"Only the routed network can be taken apart. The model recommended below is {the(found.chosen)}.")
    for condition, rows in table.groupby("condition", sort=False):
        changes = {part: Difference(rows[part], digits=2) for part in ("dR", *PARTS)}
        if condition == "clean" or changes["dR"].sign <= 0 or changes["dR"].mean < LOSS:
            continue
        risen.add(condition)
        largest = max(PARTS, key=lambda part: changes[part].mean)
        told = listed([f"{changes[part].text} is {name}" for part, name in PARTS.items()])
        said.append(
            f"{who(found.task, condition)}: of {changes['dR'].text} added loss (cross-entropy, in nats), {told}."
        )
        if changes[largest].sign > 0:
            largest_in.setdefault(largest, []).append(who(found.task, condition))
    for part, where in largest_in.items():
        said.append(f"Where {PARTS[part]} is the largest part ({'; '.join(where)}), {MEANS[part]}.")
    if not risen and len(table):
        said.append(
            "In no condition does the loss of the routed network rise reliably, so the figure's split is not described."
            if table.seed.nunique() > 1
            else "A single training cannot tell which losses rise reliably, so the figure's split is not described."
        )
    for damage, missing in words.DAMAGE.items():
        rows = table[table.condition == f"{damage} {SHARE:g}"] if not table.empty else table
        if len(rows):
            base, routed = rows["base, %"], rows["amplification, %"]
            advice = (
                "try smoother features (stronger weight decay, a smaller slope) before another router"
                if base.mean() >= routed.mean()
                else "try fewer routes, or gates that do not see the damage, before smoother features"
            )
            so = f" So {advice}." if f"{damage} {SHARE:g}" in risen else ""
            said.append(
                f"When {100 * SHARE:.0f} % of {missing} are missing, {mean(base, 0)} % of the (squared) change "
                f"inside the routed network is base sensitivity, which remains with the routes held fixed, and "
                f"{mean(routed, 0)} % is amplification by routes that change; the rest is their cross term.{so}"
            )
    return Answer(
        "Where does the loss of the routed network come from?", said, "parts",
        "Change of the loss in every condition, stacked by coverage, selection and mixing.",
    )  # fmt: skip
