"""Evaluation: the paper's Table 1 of priors, and what it leaves out. Needs the `train` extra."""
