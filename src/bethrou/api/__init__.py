"""Bethrou inside other Python programs: connections through exits without a SOCKS port in between."""
