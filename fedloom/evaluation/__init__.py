"""Evaluation: a base model and adapters on the same items of public benchmarks, each number with its interval.

api.py           from Python; evaluate.py: from adapters' folders to results
asking/          what a model is asked and replies: requests, the interface of models, the warm child, stored replies
tasks/           one task a file: items from files, requests, outcomes; registry.py: all tasks by name
tasks/files/     the one reader of their files
harness/         the tasks of lm-evaluation-harness, over the same interface
judging/         a judge elsewhere that rates answers; the only room that sends anything
sandbox/         where code that a model wrote runs
suites/          short YAML files that name tasks
data/            what is here, what the hub has, which items are drawn, which occur in training rows
statistics/      outcomes to numbers with intervals; two models on the same items; means over groups and tasks
running/         models times tasks, in a folder that a killed run goes on in
results.py       what it gave, as results.json has it; words.py: the same for people
report/          results.json, results.csv, report.html
"""
