"""The tables of docs/results.md, from the records: `python -m study.results_page` writes them anew.

A table is between `<!-- name -->` and `<!-- /name -->`. What is between them is replaced.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable

import pandas as pd

from study import router_tables
from study.balance_tables import RIVALS, demands_of, leads, over_sets
from study.better_balance import FIVE, SMALLER
from study.interrupt import ANEW, interruptible
from study.lead_tables import leads_by_domain
from study.paper_tables import claim_table, comparisons, demand_scores, mean_text, of_classes
from study.paths import ROOT
from study.records import read_results
from study.statistics import in_points
from study.transfer import kept_comparisons

PAGE = ROOT / "docs" / "results.md"
RIVALS_OF = {
    "the strongest of six": ["stem", "pretrained, no tokens", "routed", "sage", "gcn", "mlp"],
    "itself from scratch": ["stem"],
    "a GraphSAGE": ["sage"],
    "a GCN": ["gcn"],
}
OURS = {SMALLER: RIVALS, "stacked": (*RIVALS, SMALLER), "selected": (*RIVALS, SMALLER), FIVE: (*RIVALS, SMALLER)}
PAIRS = {
    "`stem` over the strongest rival": ("stem", [name for name in (*RIVALS, SMALLER) if name != "stem"]),
    "`stem` over GraphSAGE": ("stem", ["sage"]),
    "`stem` over experts without tokens": ("stem", ["routed"]),
    "`selected` over GraphSAGE": ("selected", ["sage"]),
    "`selected` over a GCN": ("selected", ["gcn"]),
}
REACH = ["difference", "low", "high"]
NULLS = {
    "frozen": "frozen random router",
    "hash": "hash of the features",
    "one expert": "one expert",
    "filters": "filters",
}
DEMANDS = {"clean": "clean", "shift": "shifted", "masked": "features masked", "deleted": "edges deleted"}


def _all_labels() -> pd.DataFrame:
    rows = of_classes(kept_comparisons().assign(covariate="degree"))
    return demand_scores(rows[rows.labels == 0])


def published() -> str:
    """The pretrained network against others, with all labels."""
    demands = _all_labels()
    columns = {}
    for name, some in RIVALS_OF.items():
        found = claim_table(comparisons(demands[demands.method.isin(["pretrained", *some])], "pretrained"))
        columns[f"against {name}"] = found.apply(mean_text, axis=1).map(without_flat)
    return markdown(pd.DataFrame(columns), "all labels")


def kinds() -> str:
    """The pretrained network against plain ones, by kind of graph."""
    found = {rival: leads_by_domain(_all_labels(), rival, "pretrained") for rival in ("gcn", "sage")}
    table = pd.DataFrame(
        {
            "lead over a GCN, clean": found["gcn"]["clean"],
            "edges deleted": found["gcn"]["deleted edges"],
            "over a GraphSAGE, clean": found["sage"]["clean"],
        }
    ).map(without_flat)
    table.index = [f"{kind} ({count})" for kind, count in found["gcn"]["data sets"].items()]
    return markdown(table, "kind of graph (data sets)")


def routers() -> str:
    """Routers that learn nothing, one expert, and different filters, minus the published router over three means."""
    table = router_tables.changes(router_tables.values(router_tables.kept()), router_tables.BASES["three means"])
    columns = {}
    for name, words in NULLS.items():
        found = table.loc[name].xs("score").loc[list(DEMANDS), REACH]
        columns[words] = [in_points(*row) for row in found.to_numpy()]
    return markdown(pd.DataFrame(columns, DEMANDS.values()), "minus the published router")


def balance() -> str:
    """Our own models against the strongest rival, on data sets run by the fair protocol."""
    rows = read_results("stress")
    demands, columns = demands_of(rows), {}
    for ours, rivals in OURS.items():
        found = over_sets(leads(demands, ours, rivals))
        texts = [in_points(*row) for row in found[REACH].to_numpy()]
        columns[f"`{ours}` ({_sets(demands, ours)})"] = pd.Series(texts, [DEMANDS[kind] for kind in found.index])
    return markdown(pd.DataFrame(columns), "lead over the strongest rival (data sets)")


def scratch() -> str:
    """The published network from scratch, and our ensemble, against single networks, by the fair protocol."""
    demands, rows = demands_of(read_results("stress")), {}
    for name, (ours, rivals) in PAIRS.items():
        found = over_sets(leads(demands, ours, rivals))
        found = {DEMANDS[kind]: in_points(*row) for kind, *row in found[REACH].itertuples()}
        rows[f"{name} ({_sets(demands, ours)})"] = found
    return markdown(pd.DataFrame(rows).T, "lead, trained from scratch (data sets)")


def _sets(demands: pd.DataFrame, method: str) -> int:
    return demands.task[demands.method == method].nunique()


TABLES: dict[str, Callable[[], str]] = {
    "published": published,
    "kinds": kinds,
    "routers": routers,
    "scratch": scratch,
    "balance": balance,
}


def without_flat(text: str) -> str:
    """A random-effects mean with its interval, without the flat mean behind it."""
    return text.partition(", flat")[0]


def markdown(table: pd.DataFrame, corner: str) -> str:
    """A table of texts in Markdown; `corner` is the title of its index."""
    return table.rename_axis(corner).reset_index().to_markdown(index=False, disable_numparse=True)


def written(page: str) -> str:
    """The page with all its tables renewed from the records.

    Raises:
        ValueError: a table has no place in it.
    """
    for name, make in TABLES.items():
        place = re.compile(rf"(?<=<!-- {name} -->\n).*?(?=\n<!-- /{name} -->)", re.DOTALL)
        if not place.search(page):
            raise ValueError(f"{PAGE.name} has no place for the table {name!r}: <!-- {name} --> ... <!-- /{name} -->")
        page = place.sub(make().replace("\\", r"\\"), page)
    return page


def main() -> None:
    """Write the page."""
    PAGE.write_text(written(PAGE.read_text()))


if __name__ == "__main__":
    sys.exit(interruptible(main, ANEW))
