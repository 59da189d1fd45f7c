"""`bethrou doctor`: what is wrong with a client or node, why, and what to do.

    gather.py     facts: from the running program, its files, ports and Redis   (all I/O is there)
    facts.py      what they are
    checks.py     every check, in the order in which they are shown
    on_*.py       the checks: pure functions from facts to findings
    finding.py    what a check says
    report.py     as text and JSON

A new check is a function in an `on_*.py`, and a line in checks.py.
"""
