"""Judging: a model behind an OpenAI-compatible endpoint rates answers. The only room that sends anything.

endpoint.py    where the judge is, and with which key: from the environment alone
templates.py   FastChat's prompts, read from their file; their placeholders are filled in one pass
verdicts.py    a rating or a winner in a judge's reply
budget.py      tokens before and while they are spent
reply.py       what a server replied, as a judgement
client.py      one question to the judge, with retries
store.py       every reply on the disk: a run goes on where it stopped
question.py    what a judge is asked
judge.py       the judge that a person named; open_judge.py: the same with its replies, as tasks ask it
"""
