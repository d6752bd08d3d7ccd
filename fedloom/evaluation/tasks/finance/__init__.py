"""Sentiment of financial news and posts, in three labels.

corpora.py     what a corpus is; phrasebank.py, fiqa.py, fiqa_labelled.py, twitter.py, news.py: one each
frames.py      prompts and rules for replies, of FinGPT and of OpenFedLLM
held_out.py    the rows that a seed draws from a file, where a test is such a draw
sentiment.py   the task: one corpus, asked by generation or by likelihood
"""
