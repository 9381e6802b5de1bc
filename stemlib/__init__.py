"""The STEM-GNN study: a routed, tokenised graph network and the two decompositions that explain it.

The way of the data through the package::

    graphs, tasks, benchmarks (datasets/), splits -> shifts, corruptions, conditions
        -> experts -> tokens -> head -> model (beside it: baselines/) -> pretrain (pretraining/), finetune
        -> theory/ -> experiments/ -> statistics, records, figures -> study, grid (runner/)
"""

__version__ = "0.1.0"
