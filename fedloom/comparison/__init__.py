"""Algorithms and baselines side by side: ``fedloom compare``.

- ``spec``        the comparison file
- ``baselines``   which baselines to run
- ``planning/``   methods, and what each one tries: the grid, its points, what is refused; the trials of both
- ``running/``    one trial, its scores and their file; several trials at a time
- ``rows``        the rows to score on, and whether a measure can tell methods apart on them
- ``scoring``     scores of a model on rows: loss, exact answers, the likeliest of a set of answers
- ``tasks/``      evaluation tasks: checked before anything is trained, with other items for choosing than for the table
- ``criterion``   the metric that hyperparameters are chosen by, or rows of the table ranked by
- ``parts``       the names of what models are scored on: rows and tasks, for choosing and for the table
- ``measuring``   all of that for one comparison, read and checked
- ``choosing``    the best of what a method tried
- ``comparison``  from the file to the results
- ``results``     scores, means and spreads; ``csv_file``, ``report`` and ``plot`` write them
- ``remarks``     where methods did not train equally
- ``verdict``     the best algorithm if there is one, and which algorithms beat every client alone
"""
