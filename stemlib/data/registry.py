"""What is known about a public data set before it is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor
from torch_geometric.data import Data

from stemlib.cache import digest
from stemlib.data.checks import checked
from stemlib.data.graph import Graph
from stemlib.data.tasks import Kind, Split, Task


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """A public data set, an entry of `catalogue.yaml`.

    Attributes:
        name: as `load` takes it.
        kind: what an instance is.
        source: where it is published.
        licence: as stated at the source.
        description: what a node, an edge and a label are.
        folder: of the raw files, relative to the data folder.
        statistics: published counts, which the tests compare.
        regression: whether labels are measured targets, not classes.
        remark: how the published files are not what they claim to be; the first of the task's notes.
        domain: what kind of graph it is, such as `citation`.
        family: data sets that share nodes, molecules or makers, so that a finding on one is likely on the others;
            empty if it stands alone.
    """

    name: str
    kind: Kind
    source: str
    licence: str
    description: str
    folder: str
    statistics: Mapping[str, int] = field(default_factory=dict)
    regression: bool = False
    remark: str = ""
    domain: str
    family: str = ""

    def load(self, width: int | None, encoder: str, message_edges: str) -> Task:
        """The task; see `stemlib.data.public.load`."""
        raise NotImplementedError

    def _task(
        self,
        graph: Data | Graph,
        labels: Tensor,
        splits: dict[str, Split],
        description: str,
        made_of: list[Any],
        notes: tuple[str, ...],
        **fields: Any,
    ) -> Task:
        """The checked task: `made_of` is everything that determines it, `fields` are other fields of `Task`."""
        return checked(
            Task(
                name=self.name,
                kind=self.kind,
                graph=Graph.of(graph),
                labels=labels,
                splits=splits,
                description=f"{description} Source: {self.source}",
                regression=self.regression,
                checksum=digest(made_of),
                notes=(*filter(None, [self.remark]), *notes),
                **fields,
            )
        )
