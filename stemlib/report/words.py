"""How the report card names things, and writes numbers."""

from __future__ import annotations

from collections.abc import Sequence

from stemlib.audit.statistics import interval
from stemlib.data.tasks import Task

METHODS = {
    "mlp": "MLP (features alone)",
    "gcn": "GCN",
    "sage": "GraphSAGE",
    "mixture": "mixture of filters",
    "routed": "routed network",
    "stacked": "selected ensemble",
    "majority": "most frequent answer",
    "model": "your model",
}
KINDS = {"node": "nodes", "link": "pairs", "graph": "graphs"}
METRICS = {
    "accuracy": "share of right answers, in per cent",
    "roc_auc": "ROC-AUC, in per cent (50 is chance)",
    "r2": "R², in per cent (0 is the mean)",
}
DAMAGE = {"masked": "the features", "deleted": "the edges"}
ENDS = {
    "degree": ("with the fewest neighbours", "with the most neighbours"),
    "homophily": ("least like their neighbours", "most like their neighbours"),
    "concentration": ("whose neighbours are least connected", "whose neighbours are most connected"),
    "size": ("with the fewest nodes", "with the most nodes"),
    "scaffold": ("with the rarest scaffolds", "with the commonest scaffolds"),
    "locality": ("farthest from the best-connected node", "closest to the best-connected node"),
}
OF_GRAPHS = {  # the same for whole graphs
    "degree": ("whose nodes have the fewest neighbours", "whose nodes have the most neighbours"),
    "homophily": ("whose nodes are least like their neighbours", "whose nodes are most like their neighbours"),
}
TERMS = {
    "AUROC": "the chance that a wrong answer ranks above a right one; 0.5 is guessing",
    "certificate": "a proof that no change of a given size can alter an answer",
    "coverage": "the loss that would be left if every node took its best experts",
    "selection": "the loss that comes from a router that picks other experts than these",
    "mixing": "the loss or gain from averaging the experts that were picked",
    "cross-entropy, nats": "the loss that training lowers; guessing among two classes costs 0.69",
    "likeness to the neighbours": "the cosine between a node's features and the mean of its neighbours'",
    "closeness to the best-connected node": "by PageRank from there; called locality in the tables",
    "covariate": "a number that each node has and that may drift, such as its number of neighbours",
}
SIGNALS = {
    "radius": "radius of the routed network's answer",
    "margin": "margin between the two best answers",
    "confidence": "confidence",
    "disagreement": "disagreement between the networks that are mixed",
}


def method(name: str) -> str:
    """A method in words."""
    return METHODS.get(name, name)


def the(name: str) -> str:
    """A method in a sentence."""
    words = method(name)
    return words if name in ("sage", "model") else f"the {words}"


def who(task: Task, condition: str) -> str:
    """A condition in words: a tail by its instances, damage by its share, another graph by its name."""
    kind, (name, _, rest) = KINDS[task.kind], condition.partition(" ")
    if rest in ("low", "high"):
        ends = ENDS | OF_GRAPHS if task.kind == "graph" else ENDS
        low, high = ends.get(name, (f"of lowest {name}", f"of highest {name}"))
        return f"{kind} {low if rest == 'low' else high}"
    if name in DAMAGE:
        return f"{100 * float(rest):.0f} % of {DAMAGE[name]} missing"
    return condition


def listed(items: Sequence[str]) -> str:
    """`a, b and c`."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def mean(values: Sequence[float], digits: int = 1) -> str:
    """`81.3 [80.1, 82.5]`: a mean with its 95 % interval over trainings; if all agree, the number."""
    values = [float(value) for value in values]
    middle = f"{sum(values) / len(values):z.{digits}f}"
    if len(values) < 2:
        return middle
    low, high = interval(values)
    if low == high:
        return middle
    return f"{middle} [{low:z.{digits}f}, {high:z.{digits}f}]"
