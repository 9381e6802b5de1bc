"""Who is sent where: the routers of a routed layer by name, each a class in this folder."""

from __future__ import annotations

from stemlib.model.routers.base import OUT, Linear, Router, Seen

ROUTERS: dict[str, type[Router | Linear]] = {"linear": Linear}

__all__ = ["OUT", "ROUTERS", "Linear", "Router", "Seen"]
