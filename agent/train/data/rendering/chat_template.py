"""A chat template, checked once: that it can be computed, and that it gives every owner the same text."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime, time
from typing import Any

from jinja2 import TemplateSyntaxError, meta, nodes
from transformers.utils.chat_template_utils import _compile_jinja_template

from agent.data.local_names import LocalName, public
from agent.data.own_template import OwnTemplate
from agent.data.rows import Role
from agent.errors import TaskFailed
from agent.train.data.rendering.time_limit import TIME_LIMIT_S, TemplateTookTooLong, time_limit
from shared.wire.tasks.leases import FailureKind

_CLOCK = "strftime_now"
_MAX_ROLES = 8


class ChatTemplate:
    """A Jinja chat template, as transformers renders it. reads_clock: whether its text depends on the date."""

    def __init__(self, tokenizer: Any, own: OwnTemplate | None, day: date | None) -> None:
        """Raises TaskFailed (data) if there is no such template, if it has an error, or if it draws at random.

        Args:
            tokenizer: the base model's.
            own: the owner's own template; None takes the tokenizer's.
            day: the date that the template sees; None means the date and time of the moment.
        """
        self._tokenizer = tokenizer
        self._day = day
        name = "the base model's chat template"
        if own is not None:
            name = LocalName(f"the template {own.name}", "the owner's template")
        self._text = own.text if own is not None else _text_of(tokenizer)
        try:
            environment = _compile_jinja_template(self._text).environment.overlay()
            environment.globals = {}  # names of the environment count as undeclared too, unless the template sets them
            tree = environment.parse(self._text)
        except TemplateSyntaxError as error:
            raise _refused(f" has an error in line {error.lineno}", name) from error
        except RecursionError as error:
            raise _refused(" is too deeply nested", name) from error
        names = meta.find_undeclared_variables(tree)
        self.reads_clock = _CLOCK in names
        if _computes_filters(tree):
            message = " computes the name of a filter (in map), which may draw at random: write the name as a text"
            raise _refused(message, name)
        if drawing := _random_parts(tree, names):
            message = f" draws at random ({', '.join(drawing)}), so every owner would have another text"
            raise _refused(message, name)

    def render(self, roles: Sequence[Role], texts: Sequence[str], *, generation_prompt: bool = False) -> str:
        """The text of some turns, with the generation prompt after them if requested.

        Raises TaskFailed (data) if the template refuses these turns, or cannot be computed on them.
        """
        messages = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=True)]
        try:
            with self._clock(), time_limit():
                rendered: str = self._tokenizer.apply_chat_template(
                    messages,
                    chat_template=self._text,
                    tokenize=False,
                    add_generation_prompt=generation_prompt,
                )
        except TemplateTookTooLong as error:
            raise _refused(f"the chat template takes more than {TIME_LIMIT_S} s on a row; does it loop?") from error
        except MemoryError as error:
            raise _refused("the chat template needs more memory on a row than there is") from error
        except Exception as error:  # a template can raise anything: most refuse a system turn, or two turns of one role
            some = ", ".join(roles[:_MAX_ROLES])
            raise _refused(f"the chat template refuses a row of these turns: {some}") from error
        return rendered

    @contextmanager
    def _clock(self) -> Iterator[None]:
        """Let the template see the day. transformers turns a function that is passed as a variable into text."""
        if self._day is None or not self.reads_clock:
            yield
            return
        midnight = datetime.combine(self._day, time())
        variables = _compile_jinja_template(self._text).environment.globals  # transformers' own, from its cache
        before = variables[_CLOCK]
        variables[_CLOCK] = midnight.strftime
        try:
            yield
        finally:
            variables[_CLOCK] = before


def _text_of(tokenizer: Any) -> str:
    """The text of the tokenizer's chat template. Raises TaskFailed (data) if there is none."""
    if not tokenizer.chat_template:
        raise _refused("the base model's tokenizer has no chat template: use the template alpaca or vicuna")
    try:
        text: str = tokenizer.get_chat_template()
    except ValueError as error:  # several templates, none of which is called default
        names = ", ".join(sorted(tokenizer.chat_template))
        message = f"the base model's tokenizer has several chat templates ({names}), and none of them is called default"
        raise _refused(f"{message}: save one to a file, and name it by template in agent.toml") from error
    return text


def _random_parts(tree: nodes.Template, names: set[str]) -> list[str]:
    """What in a template draws at random: the filter ``random``, also as an argument of ``map``, and ``lipsum``."""
    used = {each.name for each in tree.find_all(nodes.Filter)}
    used |= {each.value for each in _mapped(tree) if isinstance(each, nodes.Const)}
    return sorted(({"lipsum"} & names) | ({"random"} & used))


def _computes_filters(tree: nodes.Template) -> bool:
    """Whether ``map`` applies a filter whose name is known only when the template is rendered."""
    unpacked = any(each.dyn_args is not None for each in tree.find_all(nodes.Filter) if each.name == "map")
    return unpacked or any(not isinstance(each, nodes.Const) for each in _mapped(tree))


def _mapped(tree: nodes.Template) -> list[nodes.Expr]:
    """The names of filters that ``map`` applies."""
    return [each.args[0] for each in tree.find_all(nodes.Filter) if each.name == "map" and each.args]


def _refused(message: str, name: str = "") -> TaskFailed:
    return TaskFailed(FailureKind.DATA, f"{public(name)}{message}", f"{name}{message}")
