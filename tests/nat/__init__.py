"""Whole networks behind NAT: programs as users run them, on machines of their own (network namespaces)."""
