"""Transparency log and its verifier."""
