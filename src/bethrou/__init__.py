"""Bethrou: a private peer-to-peer proxy network. docs/ARCHITECTURE.md tells how the parts fit."""

__version__ = "0.1.0"
