"""The owner's report in words: numbers with intervals, on a terminal, as a page and as JSON."""
