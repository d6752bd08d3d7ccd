"""Evaluation: a base model and adapters on the same items of public benchmarks, each number with its interval.

requests.py      what a model is asked, and what it replies
models.py        what can be asked: the interface; child_model.py: the warm training child
replies.py       replies on the disk, so that a run that was killed goes on at the item
tasks/           one task a file: items from files, requests, outcomes; registry.py: all tasks by name
tasks/files/     the one reader of their files
listing.py       what each task needs, and what of it is here; file_groups.py: files of a folder as one line
harness/         the tasks of lm-evaluation-harness, over the same interface
sandbox/         where code that a model wrote runs
sampling.py      which items are asked, if not all
numbers.py       outcomes to numbers with intervals; beside it intervals.py, label_metrics.py, group_means.py
pairs.py         two models on the same items; averages.py: means over tasks
overlap.py       evaluation items that occur in training rows
suites/          short YAML files that name tasks
run.py           models times tasks, in a folder that a killed run goes on in
report/          table, results.json, results.csv, report.html
"""
