"""The STEM-GNN study: a routed, tokenised graph network and the two decompositions that explain it.

The way of the data through the package::

    graphs, tasks, benchmarks, splits -> shifts, corruptions -> experts -> tokens -> head -> model
        -> finetune -> floor, coverage, sensitivity -> statistics, records, figures
"""

__version__ = "0.1.0"
