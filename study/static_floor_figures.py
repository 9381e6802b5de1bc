"""The figure of chapter 01, panel by panel: lines are closed forms, marks are measured."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from study import figures
from study.static_floor import CONTEXT, DRIFTS, FREQUENCY, MISROUTED, MODEL, StaticFloor

LOOK = {
    "Monte Carlo": {"linestyle": "none", "marker": "o", "markersize": 8, "fillstyle": "none"},
    "message passing": {"linestyle": "none", "marker": "x", "markersize": 6},
    "trained network": {"linestyle": "none", "marker": "^", "markersize": 9, "fillstyle": "none"},
}
STATIC, ROUTED, FIT = figures.COLOURS["dense"], figures.COLOURS["stem"], figures.PALETTE["green"]
DASHED = {"color": "black", "linestyle": "--", "linewidth": 1}
DOTTED = {"color": "black", "linestyle": ":", "linewidth": 1}


def mark(axis: Axes, measured: pd.DataFrame, x: str, y: str, colour: tuple[float, ...]) -> None:
    """Draw what was measured, one mark for each way."""
    for way, look in LOOK.items():
        part = measured[measured.way == way]
        axis.plot(part[x], part[y], color=colour, markeredgewidth=1.2, **look)


def draw_trade_off(axis: Axes, floor: StaticFloor) -> None:
    """Least risk in training and in the worst case, by reliance on the neighbours."""
    B = torch.linspace(0, MODEL.best_rule[1], 100)
    axis.axhline(MODEL.floor, **DASHED)
    axis.plot(B, MODEL.worst_case_risk(B), color=STATIC)
    axis.plot(B, MODEL.in_distribution_risk(B), color=FIT)
    mark(axis, floor.trade_off, "reliance", "worst", STATIC)
    mark(axis, floor.trade_off, "reliance", "training", FIT)
    axis.text(0.33, 1.5, "$W$, worst case", color=STATIC, ha="right")
    axis.text(0.19, 0.41, "$R_{id}$, training", color=FIT, ha="right")
    axis.text(0.6, MODEL.floor, "floor $F$", ha="right", va="bottom")
    axis.set(xlabel="reliance $B$ on the neighbours", ylabel="squared risk", ylim=(0.3, 2.05))
    axis.set_title("a better fit costs the worst case")


def draw_misrouting(axis: Axes, floor: StaticFloor) -> None:
    """Worst-case risk by the share of misrouted nodes."""
    share = torch.linspace(0, 0.35, 50)
    static = floor.networks[floor.networks.network == "static, nonlinear"].worse.mean()
    axis.axhline(MODEL.floor, **DASHED)
    axis.axvline(MODEL.rho_crit, **DOTTED)
    axis.plot(share, MODEL.routed_risk(share), color=ROUTED)
    mark(axis, floor.misrouting, "share", "risk", ROUTED)
    axis.plot([0], [static], color=STATIC, markeredgewidth=1.2, **LOOK["trained network"])
    axis.text(0.01, MODEL.floor + 0.02, "static network", color=STATIC)
    axis.text(MODEL.rho_crit + 0.008, 0.38, r"$\rho_{crit}$")
    axis.set(xlabel=r"misrouted share $\rho$", ylabel="worst-case risk", ylim=(0.3, 1.1))
    axis.set_title(r"routing wins below $\rho_{crit}$")


def draw_drift(axis: Axes, floor: StaticFloor) -> None:
    """Worst-case risk by the drift of the router's context."""
    drift, critical = torch.linspace(0, max(DRIFTS), 80), CONTEXT.shift_at(MODEL.rho_crit).item()
    soft = floor.drift[floor.drift.way == "soft gates"]
    axis.axhline(MODEL.floor, **DASHED)
    axis.axvline(critical, **DOTTED)
    axis.plot(drift, MODEL.routed_risk(CONTEXT.misrouting(drift)), color=ROUTED)
    axis.plot(soft.drift, soft.risk, color=ROUTED, linestyle="-.", linewidth=1.2)
    mark(axis, floor.drift, "drift", "risk", ROUTED)
    axis.text(2.05, 0.72, "soft gates", color=ROUTED, ha="right", va="top")
    axis.text(critical + 0.04, 0.38, r"$\delta_{crit}$")
    axis.set(xlabel=r"drift $\delta$ of the context", ylabel="worst-case risk", ylim=(0.3, 1.4))
    axis.set_title("a drift of the context ends the lead")


def draw_caps(axis: Axes, floor: StaticFloor) -> None:
    """Worst-case risk under a cap on the slope in the fragile part, static and routed."""
    B = torch.linspace(0.02, 0.7, 100)
    axis.plot(B, FREQUENCY.floor(B), color=STATIC)
    axis.plot(B, torch.maximum(*FREQUENCY.routed_risks(B, MISROUTED)), color=ROUTED)
    mark(axis, floor.caps, "cap", "static", STATIC)
    mark(axis, floor.caps, "cap", "routed", ROUTED)
    axis.text(0.55, 0.82, "floor, static", color=STATIC, ha="center")
    axis.text(0.44, 0.5, f"routed, $p = {MISROUTED}$", color=ROUTED, ha="right")
    axis.set(xlabel="cap $B$ on the slope in $v$", ylabel="worst-case risk", ylim=(0.3, 1.35))
    axis.set_title("a tight cap leaves no lead")


PANELS = {"trade-off": draw_trade_off, "misrouting": draw_misrouting, "drift": draw_drift, "caps": draw_caps}


def draw(floor: StaticFloor, *names: str) -> Figure:
    """Some panels of the figure in a row, or all four."""
    shown = names or tuple(PANELS)
    figure, axes = figures.panels(2, 2, height=2.8) if len(shown) > 2 else figures.panels(len(shown), height=2.6)
    axes = axes.flat if len(shown) > 1 else [axes]
    for axis, name in zip(axes, shown, strict=True):
        PANELS[name](axis, floor)
    if len(shown) > 2:
        figures.label_panels(figure.axes)
    looks = {"closed form": {}} | LOOK
    handles = [plt.Line2D([], [], color="grey", label=way, **look) for way, look in looks.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=4)
    return figure
