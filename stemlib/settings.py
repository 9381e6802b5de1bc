"""The base of all configurations, which are checked when they are made and kept as plain values in records."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints


@dataclass(frozen=True)
class Settings:
    """Base of all configurations: a wrong type, choice or range is refused when the object is made."""

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for item in dataclasses.fields(self):
            value, hint = getattr(self, item.name), hints[item.name]
            if get_origin(hint) is Literal:
                if value not in get_args(hint):
                    raise ValueError(f"{item.name} must be one of {', '.join(get_args(hint))}; got {value!r}")
                continue
            types = get_args(hint) or (hint,)
            if type(value) not in (*types, int if float in types else None):
                names = " or ".join(kind.__name__ for kind in types)
                raise ValueError(f"{item.name} must be of type {names}, got {value!r} ({type(value).__name__})")
            low, high = item.metadata.get("low", 0), item.metadata.get("high", float("inf"))
            if isinstance(value, int | float) and not low <= value <= high:
                raise ValueError(f"{item.name} must lie in {low:g}..{high:g}, got {value}")

    @property
    def beside_defaults(self) -> dict[str, Any]:
        """What differs from the defaults; for a run it does not change when the settings gain a field."""
        fields = {item.name: item.default for item in dataclasses.fields(self)}
        return {name: getattr(self, name) for name, default in fields.items() if getattr(self, name) != default}


def bounded(default: Any, low: float = 0, high: float = float("inf")) -> Any:
    """A field with a range."""
    return dataclasses.field(default=default, metadata={"low": low, "high": high})
