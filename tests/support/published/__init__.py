"""Small files that were made up, in the layouts in which evaluation sets are published.

files.py     writes JSON lines, CSV, Parquet
harness.py   the sets that lm-evaluation-harness asks
finance.py   financial sentiment
code.py      code
own.py       AdvBench, and files of one's own
every.py     for each file of each task, who writes it
"""
