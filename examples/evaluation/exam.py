"""The exam of the quickstart: the rows of its test set, with room for a short reply. Its model takes 256 tokens in all.

mkdir -p evaluation-data/rows && cp demo/data/test.jsonl evaluation-data/rows/
fedloom evaluate demo/the-three-together/adapter --base examples/quickstart/model \
    --tasks examples/evaluation/exam.py:Exam
"""

from fedloom.evaluation.tasks.own.instruction_rows import InstructionRows


class Exam(InstructionRows):
    """Exact answers in the model's chat template."""

    def __init__(self) -> None:
        super().__init__(in_chat=True, max_new_tokens=24)
        self.name, self.title = "exam", "The quickstart's exam"
