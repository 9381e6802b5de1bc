"""Chapter 01's measurements: they meet the closed forms, repeat, and are drawn."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from study.static_floor import CAPS, FREQUENCY, MODEL, RELIANCES, SHARES, StaticFloor
from study.static_floor_figures import PANELS, draw


@pytest.fixture(scope="module")
def floor() -> StaticFloor:
    return StaticFloor(nodes=500, runs=1, test_nodes=20_000, samples=50_000)


def test_every_way_meets_the_closed_forms(floor: StaticFloor) -> None:
    assert floor.agreement.div(floor.agreement["closed form"], axis=0).sub(1).abs().max().max() < 0.06
    B = torch.tensor(RELIANCES)
    for way, part in floor.trade_off.groupby("way"):
        near = 0.15 if way == "trained network" else 0.06
        assert np.allclose(part.training, MODEL.in_distribution_risk(B), rtol=near)
        assert np.allclose(part.worst, MODEL.worst_case_risk(B), rtol=near)
    for _, part in floor.misrouting.groupby("way"):
        assert np.allclose(part.risk, MODEL.routed_risk(torch.tensor(SHARES)), atol=0.1)
    assert floor.crossings.sub(MODEL.rho_crit).abs().max() < 0.05


def test_networks_keep_to_the_floor_and_routing_does_not(floor: StaticFloor) -> None:
    worse = floor.networks.set_index("network").worse
    assert (worse.filter(like="static") > MODEL.floor_any - 0.03).all()
    assert worse["routed"] < MODEL.floor_any - 0.2
    assert max(floor.deep) < worse["routed"]


def test_a_cap_binds_every_static_rule(floor: StaticFloor) -> None:
    floors = FREQUENCY.floor(torch.tensor(CAPS)).numpy()
    for _, part in floor.caps.groupby("way"):
        assert (part.static.to_numpy() > floors - 0.03).all()
        assert part.routed.iloc[-1] < floors[-1]


def test_a_measurement_does_not_depend_on_what_was_asked_before(floor: StaticFloor) -> None:
    floor.trade_off  # noqa: B018  a generator that all shared would have moved
    again = StaticFloor(nodes=500, runs=1, test_nodes=20_000, samples=50_000)
    assert again.misrouting.equals(floor.misrouting)


def test_panels_can_be_drawn_alone_or_together(floor: StaticFloor) -> None:
    assert [axis.get_title() != "" for axis in draw(floor).axes] == [True] * len(PANELS)
    assert len(draw(floor, "misrouting", "drift").axes) == 2
    assert len(draw(floor, "caps").axes) == 1
    plt.close("all")
