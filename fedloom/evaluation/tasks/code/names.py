"""Tasks of code by name. Nothing is imported before a task is asked for."""

from collections.abc import Callable, Mapping
from functools import partial

from fedloom.evaluation.tasks.base import Task


def _humaneval(in_chat: bool = False, many: bool = False) -> Task:
    from fedloom.evaluation.tasks.code.code_task import GREEDY, TWENTY
    from fedloom.evaluation.tasks.code.humaneval import HumanEval

    return HumanEval(in_chat, TWENTY if many else GREEDY)


def _fix(shows_docs: bool, in_chat: bool = False) -> Task:
    from fedloom.evaluation.tasks.code.humanevalpack import HumanEvalFix

    return HumanEvalFix(shows_docs, in_chat)


def _synthesize(in_chat: bool = False) -> Task:
    from fedloom.evaluation.tasks.code.humanevalpack import HumanEvalSynthesize

    return HumanEvalSynthesize(in_chat)


def _mbpp(is_sanitized: bool = False, in_chat: bool = False, many: bool = False) -> Task:
    from fedloom.evaluation.tasks.code.code_task import GREEDY, TWENTY
    from fedloom.evaluation.tasks.code.mbpp import Mbpp

    return Mbpp(is_sanitized, in_chat, TWENTY if many else GREEDY)


def _ds1000(in_chat: bool = False) -> Task:
    from fedloom.evaluation.tasks.code.ds1000 import Ds1000

    return Ds1000(in_chat)


def _conala(in_chat: bool = False) -> Task:
    from fedloom.evaluation.tasks.code.conala import Conala

    return Conala(in_chat)


def _concode(in_chat: bool = False) -> Task:
    from fedloom.evaluation.tasks.code.concode import Concode

    return Concode(in_chat)


CODE_TASKS: Mapping[str, Callable[[], Task]] = {
    "humaneval": _humaneval,
    "humaneval_chat": partial(_humaneval, in_chat=True),
    "humaneval_n20": partial(_humaneval, many=True),
    "humaneval_chat_n20": partial(_humaneval, in_chat=True, many=True),
    "humanevalfix": partial(_fix, False),
    "humanevalfix_chat": partial(_fix, False, in_chat=True),
    "humanevalfix_docs": partial(_fix, True),
    "humanevalfix_docs_chat": partial(_fix, True, in_chat=True),
    "humanevalsyn": _synthesize,
    "humanevalsyn_chat": partial(_synthesize, in_chat=True),
    "mbpp": _mbpp,
    "mbpp_chat": partial(_mbpp, in_chat=True),
    "mbpp_n20": partial(_mbpp, many=True),
    "mbpp_sanitized": partial(_mbpp, True),
    "mbpp_sanitized_chat": partial(_mbpp, True, in_chat=True),
    "ds1000": _ds1000,
    "ds1000_chat": partial(_ds1000, in_chat=True),
    "conala": _conala,
    "conala_chat": partial(_conala, in_chat=True),
    "concode": _concode,
    "concode_chat": partial(_concode, in_chat=True),
}
"""Makers of tasks by name."""
