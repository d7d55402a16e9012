"""Trains noise priors against scorers; generator and scorers stay frozen. Needs the `train` extra."""
