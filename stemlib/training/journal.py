"""What a pretraining run writes down: losses step by step, token usage and expert load window by window."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from stemlib.training.loop import State

LOSSES = ("feature", "edge", "edge_feature", "teacher", "commitment", "orthogonality", "routing")
COLUMNS = ("data_set", "rate", "loss", "gradient_norm", *LOSSES)


class Journal(State):
    """Tensors that fill up while a run goes on.

    Args:
        steps: `S`, of the run.
        window: steps per window; the last one may be shorter.
        codes: `H` and `C`, heads and codes; zeros without tokens.
        load: `D`, `L` and `K`, data sets, routed layers and experts.
        device: where the run is; its numbers stay there until they are asked for.

    Attributes:
        steps: one row per step, `[S, len(COLUMNS)]`, NaN where a data set lacks an objective.
        codes: how often each code was chosen in a window, `[W, H, C]`.
        load: sums over nodes of the gates as deployed, by window, data set, layer and expert, `[W, D, L, K]`.
        nodes: over how many nodes, `[W, D]`.
        done: steps done.
    """

    def __init__(
        self,
        steps: int,
        window: int,
        codes: tuple[int, int],
        load: tuple[int, int, int],
        device: torch.device | str = "cpu",
    ) -> None:
        windows = -(-steps // window)
        self.steps = torch.full((steps, len(COLUMNS)), torch.nan, dtype=torch.double, device=device)
        self.codes = torch.zeros(windows, *codes, dtype=torch.long, device=device)
        self.load = torch.zeros(windows, *load, dtype=torch.double, device=device)
        self.nodes = torch.zeros(windows, load[0], dtype=torch.double, device=device)
        self.window, self.done = window, 0

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """As `State.load_state_dict`, on the journal's own device."""
        where = self.steps.device
        moved = {name: value.to(where) if isinstance(value, Tensor) else value for name, value in state.items()}
        super().load_state_dict(moved)

    def note(self, row: Tensor, data_set: int, codes: Tensor, load: Tensor, nodes: float | Tensor) -> None:
        """Write down one step: a row of `COLUMNS`, codes chosen `[H, C]`, sums of gates `[L, K]` over `nodes` nodes."""
        window = self.done // self.window
        self.steps[self.done] = row
        self.codes[window] += codes
        self.load[window, data_set] += load
        self.nodes[window, data_set] += nodes
        self.done += 1

    def losses(self, names: list[str]) -> pd.DataFrame:
        """One row per step: `step`, the data set's name, `COLUMNS`; of the losses only the sum `loss` is weighted."""
        frame = pd.DataFrame(self.steps[: self.done].cpu().numpy(), columns=COLUMNS)
        frame["data_set"] = [names[int(index)] for index in frame["data_set"]]
        frame.insert(0, "step", range(self.done))
        return frame

    def usage(self) -> pd.DataFrame:
        """One row per window and head: `perplexity` of the codes chosen, and `dead`: how many were never chosen."""
        frequency = self.codes / self.codes.sum(-1, keepdim=True)
        perplexity = torch.special.entr(frequency.double()).sum(-1).exp()
        heads = {"head": range(self.codes.size(1))}
        return self._by_window(heads, perplexity=perplexity, dead=(self.codes == 0).sum(-1))

    def experts(self, names: list[str]) -> pd.DataFrame:
        """One row per window, data set and layer: the `largest` expert's share of the gates."""
        share = self.load / self.nodes[:, :, None, None]
        frame = self._by_window({"data_set": names, "layer": range(share.size(2))}, largest=share.amax(-1))
        return frame.dropna(ignore_index=True)

    def _by_window(self, levels: dict[str, Iterable], **columns: Tensor) -> pd.DataFrame:
        """Tensors of one shape `[W, ...]` as columns; `step` is the last one of a window, `levels` are the others."""
        ends = [min(window * self.window, len(self.steps)) - 1 for window in range(1, len(self.codes) + 1)]
        index = pd.MultiIndex.from_product([ends, *levels.values()], names=["step", *levels])
        values = {name: value.flatten().cpu().numpy() for name, value in columns.items()}
        return pd.DataFrame(values, index=index).reset_index()
