"""The bundles that travel inside the package, one folder each."""

DEFAULT = "emoji"
"""The name of the bundle that draws if no other is named."""
