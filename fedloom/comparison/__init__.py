"""Algorithms and baselines side by side: ``fedloom compare``.

- ``spec``        the comparison's file
- ``baselines``   which baselines are asked for
- ``entrants``    who takes part: algorithms, each client alone, all data in one place; and the rates each one tries
- ``trial``       one campaign of an entrant, simulated, and what it scored
- ``scoring``     how a model does on rows: loss, exact answers, the likeliest of some answers
- ``comparison``  all trials, several at a time: rates chosen on validation rows, then the test rows
- ``results``     means and spreads, the table, the CSV file
- ``plot``        the picture
"""
