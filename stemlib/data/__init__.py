"""Tasks and what they stand on: prepared graphs, public and own data sets, splits, features, batches."""
