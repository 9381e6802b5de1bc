"""What the records beyond the grid say in chapter 17, in sentences generated from them: see `study.better_balance`."""

from __future__ import annotations

import pandas as pd

from study.balance_tables import KINDS, against, leads, pair_over_seeds, to_read
from study.balance_words import OTHERS
from study.better_balance import OURS, SMALLER
from study.paper_tables import demand_scores
from study.statistics import SIGNIFICANT, in_points, interval

# Rows of `ingredients` that a table shows; the others are summed up in sentences.
SHOWN = {
    (OURS, "one network"): "the best network alone",
    (OURS, "thirty rounds"): "thirty rounds of selection",
    (OURS, "weights on the simplex"): "stacking: one weight each, on the simplex",
    (SMALLER, "uniform weights"): "uniform weights",
    (SMALLER, "five means"): "five GraphSAGEs in place of five filters",
    (SMALLER, "every filter twice"): "every filter twice",
    ("filters", "three means"): "three means in place of three filters",
    ("filters", "uniform routes"): "uniform routes",
    ("filters", "random routes"): "random routes",
    ("filters", "learnt tokens"): "learnt tokens",
    ("filters", "rounded tokens"): "rounded tokens",
}
TRAININGS = {
    "consistency alone": "consistency",
    "consistency without who is met": "consistency, evaluated nodes held out of it",
    "consistency and DropEdge": "consistency and DropEdge",
}


def shown_changes(effects: pd.DataFrame) -> pd.DataFrame:
    """The rows of `ingredient_changes` that `SHOWN` names, as text."""
    text = to_read(effects)
    text = text.loc[[row for row in SHOWN if row in text.index]]
    index = [(method, SHOWN[method, variant]) for method, variant in text.index]
    return text.set_axis(pd.MultiIndex.from_tuples(index, names=["method", "change"]))


def shown_trainings(gains: pd.DataFrame) -> pd.DataFrame:
    """What consistency and DropEdge gain for each method, and what consistency gains for the mixture, as text."""
    text = to_read(gains)
    chosen = [row for row in text.index if row[1] == "consistency and DropEdge" or row[0] == SMALLER]
    return text.loc[chosen].rename(index=TRAININGS, level="training")


def changed(effects: pd.DataFrame, gains: pd.DataFrame) -> str:
    """A list: what trainings gain, what leaving a network out costs, and how much of it chance would show.

    Args:
        effects: from `ingredient_changes`.
        gains: from `training_gains`.
    """
    best = gains.xs("deleted", level="demand").difference
    method, training = best.idxmax()
    text = in_points(*gains.loc[(method, training, "deleted"), ["difference", "low", "high"]])
    lines = [
        f"- With edges deleted, the largest gain of a training is that of `{method}`: {TRAININGS[training]}, {text}. "
        + _by_chance(gains)
    ]
    for name in (SMALLER, OURS):
        mine = (
            effects.difference[effects.index.get_level_values("method") == name].droplevel("method").unstack("demand")
        )
        out = mine[mine.index.str.startswith("without ")]
        if len(out):
            some = (out.abs().max(axis=1) > 0).sum()  # one that was never selected is not missed
            span = f"{out.clean.min():+.1f} to {out.clean.max():+.1f} points"
            lines.append(
                f"- Leaving one network out of `{name}` changes the clean score by {span}; {some} of {len(out)} "
                "change any score."
            )
    return "\n".join([*lines, f"- Of all changes: {_by_chance(effects)}"])


def _by_chance(table: pd.DataFrame) -> str:
    table = table[(table.low != 0) | (table.high != 0)]  # one that is never selected changes nothing
    apart = ((table.low > 0) | (table.high < 0)).sum()
    sure = (table.p < SIGNIFICANT).sum()
    told = f"{apart} of {len(table)} intervals of changes that changed anything exclude zero"
    told += f" (about {len(table) / 20:.0f} would by chance)"
    return f"{told}, and {sure} after correction."


def covered(networks: pd.DataFrame, layers: pd.DataFrame) -> str:
    """A list: which method covers most, and whether different filters cover more than as many of one kind.

    Args:
        networks, layers: clean rows `method`, `task`, `seed`, `C`, `S`.
    """
    rows = pd.concat([networks, layers])
    means = rows.groupby("method").C.mean().sort_values()
    lines = [
        f"- Least is left by the best path in `{means.index[0]}` (C = {means.iloc[0]:.3f}), then in `{means.index[1]}`."
    ]
    found = _nats(rows, "S", SMALLER, OURS)
    lines.append(f"- `{SMALLER}` minus `{OURS}`: S, measured from the gate, changes by {found}.")
    for first, second, what in (
        ("averaged", "ensemble", "Five different filters, minus five GCNs"),
        ("filters", "routed", "Different filters in the published layer, minus three means"),
    ):
        lines.append(f"- {what}: C changes by {_nats(rows, 'C', first, second)}.")
    return "\n".join(lines)


def _nats(rows: pd.DataFrame, term: str, first: str, second: str) -> str:
    found = pair_over_seeds(rows.assign(demand="clean", score=rows[term]), first, second).loc["clean"]
    return f"{found.difference:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"


def few_leads(few: pd.DataFrame, labels: int) -> pd.DataFrame:
    """Leads after a few labels, as text, over the rival strongest on validation, the one on test, and a GCN.

    Args:
        few: from `demands_of`, of one number of labels.
        labels: per class.
    """
    parts = {}
    for ours, others in OTHERS.items():
        compared = leads(few, ours, others, labels)
        parts[ours, "the rival strongest on validation"] = against(few, ours, compared, "strongest", labels)
        parts[ours, "the rival strongest on test"] = against(few, ours, compared, "strongest_on_test", labels)
        parts[ours, "a GCN with standard training"] = pair_over_seeds(few, ours, "plain gcn", labels)
    return to_read(pd.concat(parts, names=["method", "over", "demand"]))


def few_rivals(few: pd.DataFrame, labels: int) -> str:
    """A list: which rival is strongest on validation and on test when clean, data set by data set; see `few_leads`."""
    lines = [f"When clean, among the rivals of `{OURS}`:", ""]
    clean = leads(few, OURS, OTHERS[OURS], labels).query("demand == 'clean'")
    for row in clean.itertuples():
        same = row.strongest == row.strongest_on_test
        behind = f", but on test `{row.strongest_on_test}` is {row.difference - row.on_test:.1f} points above it"
        where = "on validation and on test" if same else f"on validation{behind}"
        lines.append(f"- {row.task}: `{row.strongest}` is strongest {where}.")
    return "\n".join(lines)


def calibrated(found: pd.DataFrame) -> str:
    """A list: what one temperature calibrates, what it does not, and which signal finds wrong predictions best.

    Args:
        found: kept rows of `uncertainties`.
    """
    means = found.groupby(["method", "kind"])[["ece_plain", "ece"]].mean()
    raised = (means.ece - means.ece_plain).sort_values(ascending=False)
    worst = means.loc[raised.index[:3]].itertuples() if raised.iloc[0] > 0 else ()
    told = ", ".join(f"`{method}` {kind} ({before:.1f} to {after:.1f})" for (method, kind), before, after in worst)
    lines = [
        f"- The temperature lowers the calibration error in {(raised <= 0).sum()} of {len(means)} cells. "
        f"It raises it most for: {told or 'none'}."
    ]
    clean = found[found.kind == "clean"].groupby("method")[["temperature", "ece_plain"]].mean()
    far = clean.ece_plain.idxmax()
    how = "under" if clean.temperature[far] < 1 else "over"
    told = f"`{far}`, with {clean.ece_plain[far]:.1f} %: its temperature is {clean.temperature[far]:.2f}"
    lines.append(f"- Farthest off before that when clean is {told}: it is {how}confident.")
    signals = {"by_confidence": "confidence", "by_votes": "votes", "by_information": "mutual information"}
    several = found.dropna(subset="by_votes").groupby(["method", "kind"])[list(signals)].mean()
    best = several.idxmax(axis=1).map(signals).value_counts()
    told = ", ".join(f"{name} in {count}" for name, count in best.items())
    return "\n".join(
        [*lines, f"- Of {len(several)} rows with several networks, wrong predictions are found best by: {told}."]
    )


def moved(real: pd.DataFrame) -> pd.DataFrame:
    """Scores at home and elsewhere in the mean over sources, and the change with its interval over sources.

    Args:
        real: kept rows of `study.real_shifts`.
    """
    means = real.groupby(["method", "task"])[["clean", "score"]].mean()
    lost = (means.clean - means.score).groupby("method")
    table = means.groupby("method").mean().rename(columns={"clean": "at home", "score": "elsewhere"})
    text = [in_points(-each.mean(), *(-end for end in interval(list(each))[::-1])) for _, each in lost]
    return table.round(1).assign(change=text).sort_values("elsewhere", ascending=False)


def moved_words(real: pd.DataFrame) -> str:
    """A list: which methods lose least and most elsewhere; see `moved`."""
    means = real.groupby(["method", "task"])[["clean", "score"]].mean()
    change = (means.score - means.clean).groupby("method").mean().sort_values(ascending=False)
    told = [
        ", ".join(f"`{name}` ({value:+.1f})" for name, value in part.items()) for part in (change[:3], change[:-4:-1])
    ]
    return f"- Least is lost by {told[0]}.\n- Most is lost by {told[1]}."


def live(own: pd.DataFrame, ours: str) -> pd.DataFrame:
    """A run's mean scores by method and demand, and one method's lead over each other, with intervals over seeds.

    Args:
        own: rows of `StressTest.scores`, of one rate.
        ours: the method that the others are compared with; without it, only scores are shown.
    """
    met = demand_scores(own[~own.kind.str.startswith("shift, ")])
    met = met.assign(demand=met.demand.where(~met.demand.str.endswith(" shift"), "shift"))
    means = met.groupby(["method", "demand"]).score.mean().unstack("demand").round(1)[list(KINDS)]
    means = means.loc[own.method.unique()]
    if ours not in means.index or len(means) < 2:
        return means
    others = means.index.drop(ours)
    ahead = pd.concat({name: pair_over_seeds(met, ours, name) for name in others}, names=["method", "demand"])
    return pd.concat({"score": means, f"{ours} ahead by": to_read(ahead)}, axis=1).fillna("")


def parts_table(networks: pd.DataFrame, layers: pd.DataFrame) -> pd.DataFrame:
    """Risk, coverage, selection and mixing by method; the latter two are named by what they are measured from.

    Args:
        networks: rows of `study.uncertainty.coverage_of`: against the mean under the gate.
        layers: rows of `StressTest.coverage`: against the top path.
    """
    tables = []
    for against_what, rows in (("gate", networks), ("top path", layers)):
        means = rows.groupby(["method", "task"])[list("RCSX")].mean().groupby("method").mean()
        tables.append(means.rename(columns={"S": f"S, {against_what}", "X": f"X, {against_what}"}))
    table = pd.concat(tables).sort_values("R").round(3)
    table.insert(2, "R - C", table.R - table.C)
    return table.astype(object).fillna("")
