"""Algorithms and baselines side by side: ``fedloom compare``.

- ``spec``        the comparison file
- ``baselines``   which baselines to run
- ``methods``     what is compared: algorithms, each client alone, all data in one place; and the hyperparameters to try
- ``trial``       one simulated campaign of a method, and its scores
- ``scoring``     scores of a model on rows: loss, exact answers, the likeliest of a set of answers
- ``comparison``  all trials, several at a time: hyperparameters chosen on validation rows, then scores on test rows
- ``results``     means and spreads, the table, the CSV file
- ``plot``        the figure
"""
