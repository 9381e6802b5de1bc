"""Tasks and what they build on: prepared graphs, public and own data sets, splits, features, batches."""
