"""Numbers of an evaluation: values, intervals, paired differences, and means over groups and tasks."""
