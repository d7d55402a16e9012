"""Training: generators, noise priors, scorers. Needs the `train` extra (torch, diffusers, transformers)."""
