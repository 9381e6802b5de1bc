"""The three parts of docs/theory.md: the static floor, coverage and selection, sensitivity and amplification."""
