"""pahi-rt: one-step text-to-image with learned noise priors, without PyTorch at run time."""
