"""Tests of discovery run on both event loops, or on the one whose time can be moved, as those of net/ do."""

from __future__ import annotations

from net.conftest import clock, no_complaint, pytest_asyncio_loop_factories, pytest_collection_modifyitems

__all__ = ["clock", "no_complaint", "pytest_asyncio_loop_factories", "pytest_collection_modifyitems"]
