"""A bundle as a static web site, which draws in the browser."""
