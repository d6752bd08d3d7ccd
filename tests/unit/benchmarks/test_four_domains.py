"""The owners' rows of benchmarks/four_domains.py, and the task that scores them."""

import json
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedloom.evaluation.asking.requests import Likelihood, Scored
from fedloom.evaluation.statistics.numbers import numbers_of
from fedloom.evaluation.tasks.base import Item
from tests.support.stand_in_models import StandIn

Script = Callable[[str], Any]
ITEM = Item("7", "", {"question": "How many ships are in the harbour now?"})


def a_domain(name: str, n: int) -> list[dict[str, str]]:
    return [{"instruction": f"Question {number} of {name}", "input": "", "output": "a reply"} for number in range(n)]


def rows_of(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_no_row_holds_an_item_or_is_in_two_places(script: Script, tmp_path: Path) -> None:
    module = script("four_domains")
    (tmp_path / "evaluation-data/reply_loss").mkdir(parents=True)
    held = {"instruction": "Answer in a word.", "input": "how many SHIPS are in the harbour now", "output": "four"}
    copies = [{**row, "instruction": row["instruction"].upper() + "!"} for row in a_domain("ships", 60)]
    long = [{"instruction": "Tell a story", "input": "", "output": "and then " * 50}]
    domains = {"ships": [held, *copies, *a_domain("ships", 60), *long], "stars": a_domain("stars", 70)}
    module.share_out(domains, {"quiz": [ITEM]}, tmp_path, n_rows=6, n_characters=200)
    files = ("owners.jsonl", "validation.jsonl", "evaluation-data/reply_loss/rows.jsonl")
    owned, validation, held_out = (rows_of(tmp_path / name) for name in files)
    assert Counter(row["domain"] for row in owned) == {"ships": 6, "stars": 6}
    assert Counter(row["domain"] for row in held_out) == {"ships": 50, "stars": 50}
    texts = [row["instruction"].lower().strip("!") for row in (*owned, *validation, *held_out)]
    assert len(set(texts)) == len(texts) == 2 * (6 + 4 + 50)
    assert not [text for text in texts if "answer" in text or "story" in text]
    with pytest.raises(SystemExit, match=r"ships: only 60 rows of at most 200 characters"):
        module.share_out(domains, {"quiz": [ITEM]}, tmp_path, n_rows=7, n_characters=200)


def test_a_row_that_holds_several_items_or_shares_one_with_another_is_left_out(script: Script) -> None:
    rows = [
        {"instruction": "How many ships are in the harbour now? And then?", "input": "", "output": "four"},
        {"instruction": "x", "input": "how many ships are in the harbour now", "output": "four"},
        {"instruction": "How many ships are in the harbour?", "input": "", "output": "four"},
    ]
    free, n_left_out = script("four_domains").without_items(rows, {"quiz": [ITEM], "again": [ITEM]})
    assert (free, n_left_out) == (rows[2:], 2)


def test_the_loss_is_a_mean_over_tokens_of_all_domains_and_of_each(script: Script, tmp_path: Path) -> None:
    module = script("reply_loss")
    assert module.DOMAINS == script("four_domains").DOMAINS
    (tmp_path / "reply_loss").mkdir()
    rows = [
        {"domain": each, "instruction": f"Speak of {each}", "input": "", "output": "word"} for each in module.DOMAINS
    ]
    rows.append({"domain": "math", "instruction": "Add", "input": "1 and 2", "output": "3"})
    (tmp_path / "reply_loss/rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = module.ReplyLoss()
    items = task.load(tmp_path).items

    def reply(request: Likelihood) -> Scored:
        return Scored(-9.0, 3) if "### Input:\n1 and 2\n" in request.context else Scored(-1.0, 1)

    model = StandIn(reply)
    outcomes = task.run(items, model)
    assert [request.continuation for request in model.asked] == ["word"] * 4 + ["3"]
    assert all(request.apart for request in model.asked), "a line break before the reply is none of its tokens"
    found = {number.metric.name: number.value for number in numbers_of(task, outcomes, len(items))}
    assert found == {"all": 13 / 7, "general": 1.0, "math": 10 / 4, "code": 1.0, "finance": 1.0}
    assert math.isinf(task.compute(task.metrics[1], outcomes[1:]))


@pytest.mark.train
def test_the_prompt_is_that_of_the_template_that_owners_train_with(script: Script) -> None:
    from agent.data.rows import Row
    from tests.support.rendering import render

    for further in ("", "1 and 2"):
        (exchange,) = render(Row("Add.", further, completion="3"), "alpaca", None).exchanges
        assert script("reply_loss").prompt_of("Add.", further) == exchange.prompt
