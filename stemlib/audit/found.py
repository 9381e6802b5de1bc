"""All that an audit measured, as answers and figures read it."""

from __future__ import annotations

from dataclasses import dataclass, field

import pandas as pd

from stemlib.audit.measure import MAJORITY, Certified
from stemlib.audit.statistics import Difference
from stemlib.data.tasks import Task


@dataclass(frozen=True)
class Found:
    """All that was measured; the tables are those of `stemlib.audit.measure`, `risk` and `watch`.

    Attributes:
        chosen: the method to freeze.
        level: those that validation cannot tell from the best.
        signal: by which the risk table is sorted.
        overlap: of the seeds' splits.
    """

    task: Task
    scores: pd.DataFrame
    decomposition: pd.DataFrame
    certified: list[Certified]
    risk: pd.DataFrame
    signals: pd.DataFrame
    watch: pd.DataFrame
    damage: pd.DataFrame
    worst: pd.DataFrame
    chosen: str
    level: list[str]
    signal: str
    overlap: float
    notes: list[str] = field(default_factory=list)

    def of(self, name: str, kind: str, condition: str | None = None, value: str = "score") -> pd.Series:
        """A method's scores by seed in one condition, averaged over draws."""
        rows = self.scores[(self.scores.method == name) & (self.scores.kind == kind)]
        rows = rows if condition is None else rows[rows.condition == condition]
        return rows.groupby("seed")[value].mean()

    @property
    def methods(self) -> list[str]:
        """The networks, without the most frequent answer."""
        return [name for name in self.scores.method.unique() if name != MAJORITY]

    @property
    def useless(self) -> bool:
        """Whether the chosen method is not reliably better than the most frequent answer; two trainings cannot tell."""
        scores = self.of(self.chosen, "clean")
        return len(scores) > 2 and Difference(scores - self.of(MAJORITY, "clean"), self.overlap).sign <= 0

    def met(self) -> list[tuple[str, str, str]]:
        """Kind, condition and the kind that losses are taken from, for everything met except clean instances."""
        rows = self.scores[~self.scores.kind.isin(["clean", "inside", "filtered"])].drop_duplicates(
            ["kind", "condition"]
        )
        base = "inside" if (self.scores.kind == "inside").any() else "clean"
        return [
            (kind, name, base if kind == "shift" else "clean")
            for kind, name in zip(rows.kind, rows.condition, strict=True)
        ]
