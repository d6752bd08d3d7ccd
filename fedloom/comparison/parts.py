"""What models are scored on, by name: rows and items of tasks, each for choosing or for the table."""

VALIDATION = "validation"
"""Rows for choosing."""
TEST = "test"
"""Rows for the table."""
CHOOSING = "choosing"
"""Items of tasks for choosing."""
EVALUATION = "evaluation"
"""Items of tasks for the table."""

IN_WORDS = {VALIDATION: "the validation rows", TEST: "the test rows", EVALUATION: "the evaluation tasks"}
