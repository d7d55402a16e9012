"""Programs of the checkout that make documentation; not part of the package."""
