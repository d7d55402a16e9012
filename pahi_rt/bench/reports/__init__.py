"""The reports of the benchmarks, as dataclasses and as JSON: every number with its unit."""
