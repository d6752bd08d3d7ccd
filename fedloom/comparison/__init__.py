"""Algorithms and baselines side by side: ``fedloom compare``.

- ``spec``        the comparison file
- ``baselines``   which baselines to run
- ``methods``     what is compared: algorithms, each client alone, all data in one place; and the hyperparameters to try
- ``trial``       one simulated campaign of a method, and its scores
- ``rows``        the rows to score on, and whether a measure can tell methods apart on them
- ``scoring``     scores of a model on rows: loss, exact answers, the likeliest of a set of answers
- ``criterion``   the metric that hyperparameters are chosen by, or rows of the table ranked by
- ``tasks/``      evaluation tasks: checked before anything is trained, then asked of each trained model
- ``trial_scores``  all scores of a trial, and their file
- ``comparison``  all trials, several at a time: hyperparameters chosen on validation rows, then scores on test rows
- ``results``     scores, means and spreads, the CSV file
- ``verdict``     the best algorithm if there is one, and which algorithms beat every client alone
- ``report``      the table, and the results as JSON
- ``plot``        the figure
"""
