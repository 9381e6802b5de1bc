"""What is known of a public data set before it is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from stemlib.data.tasks import Kind, Task


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A public data set.

    Attributes:
        name: as `load` takes it.
        kind: what an instance is.
        source: where the public has it from.
        licence: as stated at the source.
        description: what a node, an edge and a label are.
        folder: of the raw files, relative to the data folder.
        statistics: published counts, which the tests compare.
        values: whether labels are measured values, not classes.
    """

    name: str
    kind: Kind
    source: str
    licence: str
    description: str
    folder: str
    statistics: Mapping[str, int] = field(default_factory=dict)
    values: bool = False

    def load(self, width: int | None, encoder: str, message_edges: str) -> Task:
        """The task; see `stemlib.data.public.load`."""
        raise NotImplementedError
