"""Draw everything that is drawn once: `python -m study.drawings` writes `figures/drawing_<name>.svg` and `.png`."""

from __future__ import annotations

import sys

import matplotlib.pyplot as plt

from study import figures
from study.drawings import DRAWINGS, drawn
from study.interrupt import interruptible


def main() -> None:
    """The command line."""
    figures.use_style()
    for name in DRAWINGS:
        print(figures.save(drawn(name), f"drawing_{name}", ("svg", "png")))
        plt.close()


if __name__ == "__main__":
    sys.exit(interruptible(main))
