"""The reference's recorded arrays, and its weights and settings under our names, for `test_parity.py`."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import torch

from stemlib.data.graph import Graph
from stemlib.presets import ModelConfig

FOLDER = os.environ.get("STEMLIB_PARITY")
Arrays = dict[str, torch.Tensor]


def read(name: str) -> Arrays:
    with np.load(Path(FOLDER or ".") / name) as file:
        return {key: torch.from_numpy(file[key]) for key in file.files}


def below(arrays: Arrays, prefix: str) -> Arrays:
    return {key.removeprefix(prefix): value for key, value in arrays.items() if key.startswith(prefix)}


def below_once(file: str, pattern: str) -> list[str]:
    """The distinct matches of `pattern` in a file's keys, for parametrisation at collection time."""
    if FOLDER is None:
        return ["absent"]
    return sorted({found.group(1) for key in read(file) if (found := re.match(pattern, key))})


def graph_of(arrays: Arrays, flipped: bool, edge_features: bool = True) -> Graph:
    edges = arrays["graph/edge_index"]
    edges = edges.flip(0) if flipped else edges
    graph = Graph(arrays["graph/x"], edges, about={"y": arrays["graph/y"]})
    if edge_features:
        graph.edge_attr = arrays["graph/edge_attr"]
    return graph


def encoder_state(theirs: Arrays, config: ModelConfig) -> Arrays:
    """The reference's encoder state under our names."""
    ours = {}
    for name, value in theirs.items():
        if name.startswith("norms.") and config.norm != "batch":
            continue
        name = re.sub(r"^env_encoders\.", "routers.", name)
        name = re.sub(r"^(layers\.\d+)\.weights$", r"\1.weight", name)
        if config.backbone != "sage":
            name = re.sub(r"^(layers\.\d+)\.(?!weight$)", r"\1.conv.", name)
        ours[name] = value
    return ours


def reference_config(kind: str, norm: str, theirs: Arrays) -> ModelConfig:
    layers = [name for name in theirs if name.startswith("norms.") and name.endswith(".bias")]
    routed = kind.removeprefix("moe_") if kind.startswith("moe_") else "none"
    weights = [value for name, value in theirs.items() if name.endswith(".weights")]
    return ModelConfig(
        hidden=len(theirs[layers[0]]),
        layers=len(layers),
        backbone="sage" if routed != "none" else kind.removeprefix("dense_"),
        routed=routed,
        experts=len(weights[0]) if weights else 2,
        norm=norm,
        dropout=0.0,
        routed_edge_features=False,
        codebook="none",
    )
