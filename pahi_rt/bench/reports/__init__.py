"""What the benchmarks report: every number with its unit, as dataclasses and as JSON."""
