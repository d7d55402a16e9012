"""Training: noise priors against scorers, with the generator frozen. Needs the `train` extra."""
