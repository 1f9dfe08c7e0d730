"""Unit tests; the tree mirrors the package."""
