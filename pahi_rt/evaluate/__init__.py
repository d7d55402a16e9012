"""Evaluates priors: the paper's Table 1, with more measures and baselines. Needs the `train` extra."""
