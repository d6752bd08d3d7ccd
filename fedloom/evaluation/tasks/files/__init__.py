"""Reading files of evaluation data: one rule for all tasks.

finding.py   where a file is, and what is said if it is not there
formats.py   bytes to content: JSON, JSON lines, gzip, CSV, Parquet, text
json_text.py JSON, with the line at which a file breaks off
columns.py   content to rows that have the columns a task reads
source.py    what a task reads through; digests, numbers of rows, ids, and what is said of them
"""
