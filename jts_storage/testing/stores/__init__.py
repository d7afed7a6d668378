"""The stores that tests write to: each is prepared once, emptied for every test, closed at the end.

All of it blocks; emptying goes around the faults that a test may have asked for.
"""
