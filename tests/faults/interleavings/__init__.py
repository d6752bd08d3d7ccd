"""Random interleavings of a coordinator's and its agents' steps, and what must hold after each of them.

world      a coordinator that can be stopped, with a clock that can be moved and engines that look when they are told
owners     agents that train in numpy and keep what SCAFFOLD has clients keep
books      what was said and answered, kept by the test, and what must follow from it
seen       what the database and the storage hold
checks     compares the two
machine    the steps
"""
