"""`pahi-rt qualify`: whether runtimes and precisions may stand in for the reference, in pictures of the same noise."""
