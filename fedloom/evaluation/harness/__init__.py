"""The tasks of lm-evaluation-harness, over the interface of every model here.

yaml/        its tasks in its own format, and no other: it never reads the ones that come with it
rows.py      hands it rows from memory, so that it fetches nothing and leaves nothing on the disk
model.py     its interface of a model, over ours
running.py   one run of it
task.py      such a run as a task
"""
