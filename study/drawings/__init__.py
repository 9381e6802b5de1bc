"""Drawings of the model, of what is measured on it and of how it is tested, made once: `python -m study.drawings`."""

from __future__ import annotations

from matplotlib.figure import Figure

from study.drawings import model, procedures, theory

DRAWINGS = {
    "stem": model.stem,
    "routed_layer": model.routed_layer,
    "tokens": model.tokens,
    "mixture": model.mixture,
    "paths": theory.paths,
    "sensitivity": theory.sensitivity,
    "pretraining": procedures.pretraining,
    "protocol": procedures.protocol,
}


def drawn(name: str) -> Figure:
    """A drawing whose files are always the same: it has no clips, whose names in an SVG depend on rounding."""
    figure = DRAWINGS[name]()
    for artist in figure.findobj():
        artist.set_clip_on(False)
    return figure
