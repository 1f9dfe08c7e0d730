"""Tests of one part of the package, named after it."""
