"""Open-ended questions, whose answers a judge rates: MT-Bench and Vicuna-Bench.

benches.py      the two sets: files, turns, how answers are decoded
questions.py    their files to items
answers.py      what a model answers, turn by turn
judged_task.py  what tasks of a judge share: what it may cost, and when there is no number
rated.py        ratings from 1 to 10; compared.py: which of two models answers better
"""
