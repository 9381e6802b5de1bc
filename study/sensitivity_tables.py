"""What chapter 04 measures: how far damage moves a routed network, with its routes held and with its routes moving.

The table has a row per seed, strength of the penalty, condition, damage, rate and read-out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product

import pandas as pd
import torch
from torch import Tensor

from stemlib.data.tasks import Task
from stemlib.model.stem import StemGNN
from stemlib.presets import Preset, change
from stemlib.stress.conditions import Condition, corrupt, shift_protocol
from stemlib.stress.shifts import Buckets, instance_covariate, tail_buckets
from stemlib.theory.replay import change_under
from stemlib.theory.sensitivity import sensitivity
from stemlib.training.evaluation import scores
from study.forecast import forecast
from study.methods import Method, stem
from study.statistics import interval, paired_difference
from study.trained import trained_model

EXPERIMENT = "04_sensitivity_vs_amplification"
USUAL = 1e-3  # strength of the head's penalty
KINDS = {"masked": "features masked", "deleted": "edges deleted"}
RATES = (0.0, 0.1, 0.2, 0.4, 0.6, 0.8)
READOUTS = ("embedding", "tokens", "logits")
KEPT = "^(seed|penalty|kind|rate|readout|accur|total|base|amplif|cross|order|share|factor|rout|variat|token|decisions"
KEPT += "|head|layer_t)"
TOLD = ["routing_entropy", "variation_1", "variation_2", "factor", "token_gain", "tokens_explained", "tokens_kept"]
TOLD += ["variation_tightness_2", "layer_tightness_2", "head_tightness_spectral", "head_tightness_penalised"]


@dataclass(frozen=True)
class Penalised:
    """One network per seed and strength of the head's penalty, trained where degree and homophily are both ordinary.

    Args:
        task: of nodes.
        budget: of every training.
        seeds: each has its own split, initial weights and damage.
    """

    task: Task
    budget: Preset
    seeds: range

    @cached_property
    def buckets(self) -> Buckets:
        """The ordinary middle, `ID`, and the four tails of homophily and of degree."""
        tails = {name: tail_buckets(instance_covariate(self.task, name)) for name in ("homophily", "degree")}
        sides = product(("low", "high"), tails)
        members = {f"{side} {name}": tails[name].members[f"OOD-{side}"] for side, name in sides}
        ordinary = torch.ones(self.task.instances, dtype=torch.bool)
        ordinary[torch.cat(list(members.values()))] = False
        return replace(tails["homophily"], members={"ID": ordinary.nonzero().squeeze(1), **members})

    @cached_property
    def _trained(self) -> dict[tuple[int, float], tuple[StemGNN, list[Condition]]]:
        return {}

    def method(self, penalty: float) -> Method:
        """STEM-GNN whose head is penalised with that strength."""
        method = stem(self.budget, f"lipschitz-{penalty:g}")
        return Method(method.name, method.model, change(method.train, lipschitz=penalty))

    def foretell(self) -> None:
        """Say how long the trainings may take."""
        splits = [(*shift_protocol(self.task, self.buckets, seed)[:2], seed) for seed in self.seeds]
        forecast(EXPERIMENT, splits, [self.method(USUAL)] * 3)

    def trained(self, seed: int, penalty: float = USUAL) -> tuple[StemGNN, list[Condition]]:
        """A network, and the conditions of its seed, the clean one first; a finished training is read back."""
        if (seed, penalty) not in self._trained:
            inside, split, conditions = shift_protocol(self.task, self.buckets, seed)
            model = trained_model(EXPERIMENT, inside, split.name, self.method(penalty), seed)
            self._trained[seed, penalty] = model.requires_grad_(False), conditions
        return self._trained[seed, penalty]

    def measure(
        self, seed: int, penalty: float, place: int, kind: str, rate: float, readouts: Iterable[str]
    ) -> list[dict[str, object]]:
        """A row per read-out, of one network in one condition under one damage."""
        model, conditions = self.trained(seed, penalty)
        clean = conditions[place]
        perturbed, _ = corrupt(clean, kind, rate, seed)
        row = {"seed": seed, "penalty": penalty, "bucket": clean.name, "kind": kind, "rate": rate}
        gates = torch.stack(model.encode(clean.task.graph).gates)[:, clean.index]
        row["routing_entropy"] = torch.special.entr(gates).sum(-1).mean().item()
        row["accuracy"] = 100 * scores(model, [perturbed])[perturbed.name]
        return [row | sensitivity(model, clean, perturbed, readout).summary() for readout in readouts]

    def table(
        self,
        penalties: Iterable[float] = (USUAL,),
        places: Iterable[int] = (0,),
        rates: Iterable[float] = RATES,
        readouts: Iterable[str] = READOUTS,
    ) -> pd.DataFrame:
        """Every seed and both kinds of damage with the given settings, see `with_shares`."""
        settings = product(self.seeds, penalties, places, KINDS, rates, [tuple(readouts)])
        return with_shares(pd.DataFrame([row for setting in settings for row in self.measure(*setting)]))

    def losses(self, rate: float = 0.4) -> pd.DataFrame:
        """The mean change of the loss, base and amplification, a row per seed and kind of damage."""
        rows = []
        for seed, kind in product(self.seeds, KINDS):
            model, (clean, *_) = self.trained(seed)
            mean = sensitivity(model, clean, corrupt(clean, kind, rate, seed)[0], "loss").sequential.mean.squeeze(1)
            rows.append({"kind": kind, "seed": seed, "base": mean[0].item(), "amplification": mean[1:].sum().item()})
        return pd.DataFrame(rows)


def with_shares(frame: pd.DataFrame) -> pd.DataFrame:
    """Add the shares in the squared change, in per cent: base, amplification (`share`), and twice their cross term."""
    cross = frame.total - frame.base - frame.amplification
    parts = {"base_share": frame.base, "share": frame.amplification, "cross_share": cross}
    return frame.assign(**{name: 100 * part / frame.total for name, part in parts.items()})


def against_none(frame: pd.DataFrame, value: str, strength: float) -> tuple[float, float, float]:
    """What a penalty changes at rate 0.4, in the mean over both kinds of damage: the mean and its 95 % interval."""
    chosen = frame[(frame.rate == 0.4) & (frame.readout == "logits")]
    both = chosen.groupby(["penalty", "seed"])[value].mean().reset_index()
    return paired_difference(both, value, strength, 0.0, by="penalty")[:3]


def residual(model: StemGNN, clean: Condition, perturbed: Condition) -> float:
    """How far the library's pieces lie from those of four whole passes with recorded gates, relative to the change."""
    found = change_under(model, clean, perturbed, "embedding")
    pieces = found.sequential.base, found.sequential.amplification, found.symmetric.amplification
    whole = _four_passes(model, clean, perturbed)
    errors = [(piece - other).abs().max() for piece, other in zip(pieces, whole, strict=True)]
    adds_up = max((found.total - way.base - way.layers.sum(1)).abs().max() for way in found[1:])
    return (max(*errors, adds_up) / found.total.abs().max()).item()


def _four_passes(model: StemGNN, clean: Condition, perturbed: Condition) -> list[Tensor]:
    x, damaged_x, rows = clean.task.graph, perturbed.task.graph, clean.index
    with torch.no_grad():
        before, after = model.encode(x), model.encode(damaged_x)
        frozen, moved = model.encode(damaged_x, before.gates), model.encode(x, after.gates)
    first, second = after.z - frozen.z, moved.z - before.z
    return [value[rows] for value in (frozen.z - before.z, first, (first + second) / 2)]


def double(condition: Condition) -> Condition:
    """The condition with 64-bit features."""
    graph = replace(condition.task.graph, x=condition.task.graph.x.double())
    return replace(condition, task=replace(condition.task, graph=graph))


def verdict(frame: pd.DataFrame) -> pd.DataFrame:
    """`mean`, `low` and `high` over seeds, of both kinds of damage and all rates above 0 (the penalty's: 0.4)."""
    rows = frame[(frame.rate > 0) & (frame.penalty == USUAL)]
    shares = rows.groupby(["readout", "seed"], sort=False)[["share", "cross_share"]].mean()
    parts = {"share": "share of amplification", "cross_share": "twice the cross term"}
    found = {}
    for readout, (column, part) in product(READOUTS, parts.items()):
        values = shares.loc[readout, column]
        found[f"{part} in %, {readout}"] = values.mean(), *interval(values)
    for name, values in rows[rows.readout == "embedding"].groupby("seed")[TOLD].mean().items():
        found[name.replace("_", " ")] = values.mean(), *interval(values)
    for value in ("total", "decisions_kept", "accuracy"):
        found[f"penalty 0.01, {value.replace('_', ' ')}"] = against_none(frame, value, 1e-2)
    return pd.DataFrame(found, index=["mean", "low", "high"]).T
