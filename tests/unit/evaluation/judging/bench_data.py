"""Models that answer in turns, and a judge that is waited for a moment only."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from fedloom.evaluation.asking.requests import Text
from fedloom.evaluation.judging.budget import Budget
from fedloom.evaluation.judging.client import Patience
from fedloom.evaluation.judging.endpoint import Endpoint
from fedloom.evaluation.judging.judge import Judge
from tests.support.counting_model import CountingModel
from tests.support.judge_server import MODEL

QUICK = Patience(attempts=3, pause_s=0.01, longest_pause_s=2.0, timeout_s=5.0)


class Talker(CountingModel):
    """Answers with its name and what it was asked last."""

    def __init__(self, name: str = "base", adapter_sha256: str | None = None, wrap: str = "{}") -> None:
        super().__init__(name, adapter_sha256)
        self.facts = replace(self.facts, has_chat_template=True, n_positions=4096)
        self._wrap = wrap

    def chat_prompt(self, messages: Sequence[dict[str, str]]) -> str:
        return json.dumps(list(messages))

    def _reply(self, request: Any) -> Text:
        asked = json.loads(request.prompt)[-1]["content"]
        return Text(self._wrap.replace("{}", f"{self.facts.name} answers {asked}"), 3)


def judge_at(
    url: str, *, most: int = 10_000_000, key: str = "", model: str = MODEL, patience: Patience = QUICK
) -> Judge:
    return Judge(Endpoint(url, model, key), Budget(most), patience)
