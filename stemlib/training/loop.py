"""What all trainings share: a progress bar, a clock, and a state from which a killed one ends with the same bits."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from stemlib.cache import read_checked, write_checked
from stemlib.files import quiet
from stemlib.memory import keep_freed
from stemlib.training import processes

SECONDS_BETWEEN_STATES = 15.0


class State:
    """Base of objects kept as they are: their attributes are their state."""

    def state_dict(self) -> dict[str, Any]:
        """The attributes by name."""
        return vars(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        vars(self).update(state)


class Loop:
    """The clock of a training, and its state on disk.

    Args:
        file: where the first of several processes keeps the state; a state found there is taken over. None: it is not
            kept.
        parts: all that a step changes, by name: generators, and what has `state_dict` and `load_state_dict`.

    Attributes:
        resumed: whether there was a state.
        seconds: that the steps took, in killed processes too.

    Raises:
        ValueError: the state is damaged.
    """

    def __init__(self, file: Path | None, **parts: Any) -> None:
        keep_freed()
        self.file, self.parts, self.seconds = file, parts, 0.0
        self.resumed = file is not None and file.is_file()
        if self.resumed:
            state = read_checked(file)
            self.seconds = state["seconds"]
            for name, part in parts.items():
                (part.set_state if isinstance(part, torch.Generator) else part.load_state_dict)(state[name])

    def steps(self, done: int, total: int, label: str, check: Callable[[], object] = lambda: None) -> Iterator[tqdm]:
        """Yield the progress bar for every step that is left; the state, once checked, is kept between two steps."""
        since_state = since = time.monotonic()
        first = processes.rank() == 0
        with tqdm(total=total, initial=done, desc=label, leave=False, disable=quiet() or not first) as bar:
            for _ in range(done, total):
                yield bar
                bar.update()
                bar.refresh()
                now = time.monotonic()
                self.seconds += now - since
                since = now
                if first and self.file is not None and now - since_state > SECONDS_BETWEEN_STATES:
                    check()
                    self.keep()
                    since_state = now

    def keep(self) -> None:
        """Save the state, atomically."""
        state = {
            name: part.get_state() if isinstance(part, torch.Generator) else part.state_dict()
            for name, part in self.parts.items()
        }
        write_checked(self.file, state | {"seconds": self.seconds})


def cosine(part: float, whole: float) -> float:
    """The factor of a rate that falls along a cosine from 1 to 0 over a `whole`, and rises again after it."""
    return 0.5 * (1 + math.cos(math.pi * part / whole))
