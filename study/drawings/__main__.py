"""Draw everything that is drawn once: `python -m study.drawings` writes `figures/drawing_<name>.svg` and `.png`."""

from __future__ import annotations

import matplotlib.pyplot as plt

from study import figures
from study.drawings import DRAWINGS, drawn

if __name__ == "__main__":
    figures.use_style()
    for name in DRAWINGS:
        print(figures.save(drawn(name), f"drawing_{name}", ("svg", "png")))
        plt.close()
