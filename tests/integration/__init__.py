"""Whole commands."""
