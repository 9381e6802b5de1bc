"""A thousand inputs broken in every field: each is taken and learnt, or refused by name; none reaches a torch error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from samples import ring
from torch import Tensor
from torch_geometric.data import Batch, Data

from stemlib.data.own_data import from_data
from stemlib.presets import BaselineConfig, ModelConfig, TrainConfig
from stemlib.training.finetune import fit
from study.families import build

INPUTS = 1000
Change = Callable[[Any], Any]


def numbered(value: Any) -> np.ndarray:
    return np.asarray(value)


# What can be done to a value, whatever field it stands in.
CHANGES: dict[str, Change] = {
    "gone": lambda value: None,
    "double": lambda value: value.double(),
    "half": lambda value: value.half(),
    "bfloat16": lambda value: value.bfloat16(),
    "int32": lambda value: value.int(),
    "uint8": lambda value: value.to(torch.uint8),
    "bool": lambda value: value.bool(),
    "complex": lambda value: value.to(torch.complex64),
    "numpy": numbered,
    "fortran": lambda value: np.asfortranarray(numbered(value)),
    "list": lambda value: value.tolist(),
    "objects": lambda value: numbered(value).astype(object),
    "text": lambda value: numbered(value).astype(str),
    "word": lambda value: "word",
    "number": lambda value: 3.5,
    "coo": lambda value: value.to_sparse(),
    "csr": lambda value: value.to_sparse_csr(),
    "scipy": lambda value: scipy.sparse.csr_array(numbered(value)),
    "matrix": lambda value: np.asmatrix(numbered(value)),
    "masked": lambda value: np.ma.masked_equal(numbered(value), 1),
    "parameter": lambda value: torch.nn.Parameter(value.float()),
    "meta": lambda value: value.to("meta"),
    "turned": lambda value: value.T,
    "flat": lambda value: value.flatten(),
    "deeper": lambda value: value.unsqueeze(-1),
    "wider": lambda value: torch.stack([value, value], -1),
    "first row": lambda value: value[:1],
    "last row gone": lambda value: value[:-1],
    "no row": lambda value: value[:0],
    "no column": lambda value: value[..., :0],
    "one number": lambda value: value.flatten()[0],
    "twice": lambda value: torch.cat([value, value]),
    "reversed": lambda value: value.flip(0),
    "minus one": lambda value: value.long() - 1,
    "minus ten": lambda value: value.long() - 10,
    "far": lambda value: value.long() + 10**6,
    "hundreds": lambda value: value.long() * 100,
    "nan": lambda value: value.float().masked_fill(torch.arange(value.numel()).view(value.shape) == 1, torch.nan),
    "infinite": lambda value: value.float().masked_fill(torch.arange(value.numel()).view(value.shape) == 1, torch.inf),
    "all nan": lambda value: torch.full_like(value, torch.nan, dtype=torch.float),
    "beyond float32": lambda value: value.double() * 1e300,
    "zero": lambda value: value * 0,
    "ones": lambda value: value * 0 + 1,
    "halves": lambda value: value.float() + 0.5,
    "floats": lambda value: value.float(),
    "unlabelled": lambda value: torch.where(torch.arange(len(value)) < 2, -1, value.long()),
}


def links() -> Data:
    data = ring(24)
    data.edge_label_index, data.edge_label = data.edge_index.flip(1), torch.arange(24) % 3
    return data


def graphs() -> Data:
    parts = [
        Data(x=torch.randn(3, 3), edge_index=torch.tensor([[0, 1], [1, 2]]), y=torch.tensor([i % 2])) for i in range(24)
    ]
    batch = Batch.from_data_list(parts)
    for name in ("train_mask", "val_mask", "test_mask"):
        batch[name] = ring(24)[name]
    return batch


WHOLE = {"node": lambda: ring(24), "link": links, "graph": graphs}
FIELDS = ["x", "edge_index", "edge_attr", "y", "train_mask", "val_mask", "test_mask"]
OF_KIND = {"node": FIELDS, "link": [*FIELDS, "edge_label", "edge_label_index"], "graph": [*FIELDS, "batch", "ptr"]}
kinds = st.sampled_from(sorted(WHOLE))
broken = kinds.flatmap(
    lambda kind: st.tuples(
        st.just(kind),
        st.lists(st.tuples(st.sampled_from(OF_KIND[kind]), st.sampled_from(sorted(CHANGES))), min_size=1, max_size=2),
    )
)


def changed(kind: str, changes: list[tuple[str, str]]) -> Data | None:
    """The data with some fields changed; None where a change makes no sense for a field's value."""
    data = WHOLE[kind]()
    data.edge_attr = torch.rand(data.edge_index.size(1), 2)
    for name, change in changes:
        try:
            data[name] = CHANGES[change](data[name])
        except Exception:  # such a value cannot be made: `to_sparse_csr` of one dimension, say
            return None
    return data


@settings(max_examples=INPUTS, deadline=None, suppress_health_check=list(HealthCheck))
@given(broken, st.booleans())
@example(("graph", [("y", "word"), ("y", "text")]), False)
def test_each_is_taken_and_learnt_or_refused_by_name(case: tuple[str, list[tuple[str, str]]], regression: bool) -> None:
    kind, changes = case
    if (data := changed(kind, changes)) is None:
        return
    try:
        task = from_data(data, kind=kind, regression=regression)
    except ValueError as refusal:
        message = str(refusal)
        assert message.startswith("the data of 'own-data' cannot be used:\n  - "), message
        return
    assert task.graph.x.dtype == torch.float32
    assert isinstance(task.labels, Tensor)
    split = next(iter(task.splits.values()))
    for config in (ModelConfig(hidden=4, codes=4), BaselineConfig("gcn", hidden=4)):
        fit(build(config, task), task, split, TrainConfig(epochs=1), 0)
