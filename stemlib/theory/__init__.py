"""The paper's three statements: the static floor, coverage and selection, sensitivity and amplification."""
