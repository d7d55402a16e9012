"""The bundles that travel inside the package, one folder each."""
