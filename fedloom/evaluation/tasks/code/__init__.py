"""Code: programs that run in the sandbox, and lines of code that are compared with a reference.

replies.py          the code in a reply: a completion, or a fenced block
code_task.py        the task: ask, run in the sandbox, pass@k
pass_at_k.py        the unbiased estimate
humaneval.py, humanevalpack.py, mbpp.py, ds1000.py   one set each
bleu.py             BLEU-4 of a corpus, by three rules
line_task.py        the task: one line of code, compared
conala.py, concode.py   one set each
names.py            all of these by name
"""
