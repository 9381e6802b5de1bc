"""Notebooks in a batch: a study, a grid, one job, on a laptop or a cluster."""
