"""The answer's process: runs the answer, then calls it for the tests, of which it knows the arguments alone."""

import contextlib
import sys
from types import ModuleType
from typing import Any

from . import confined
from .wire import Channel, Ended, Unreadable, decode, encode

MUTABLE = ("list", "dict", "set", "bytearray")
"""Arguments that an answer may change in place, as tests then see."""


class Answer:
    """The names that an answer defined, and those of its objects that the tests hold handles to."""

    def __init__(self, names: dict[str, Any]) -> None:
        self.names = names
        self.kept: list[Any] = []

    def keep(self, value: Any) -> list[Any]:
        self.kept.append(value)
        return ["handle", [len(self.kept) - 1, type(value).__name__]]

    def find(self, body: Any) -> Any:
        return self.kept[body]

    def do(self, message: list[Any]) -> list[Any]:
        """The reply to one message. Whatever the answer raises passes through."""
        action, *rest = message
        changed: list[list[Any]] = []
        if action == "name":
            value = self.names[rest[0]]
        else:
            target = self.kept[rest[0]]
            before = rest[1:]
            arguments = [decode(each, self.find) for each in before]
            value = self.act(action, target, arguments)
            for index, sent in enumerate(before):
                if isinstance(sent, list) and sent[0] in MUTABLE:
                    after = encode(arguments[index], self.keep)
                    if after != sent:
                        changed.append([index, after])
        return ["value", encode(value, self.keep), changed]

    def act(self, action: str, target: Any, arguments: list[Any]) -> Any:
        if action == "call":
            *positional, named = arguments
            return target(*positional, **named)
        if action == "get":
            return getattr(target, arguments[0])
        if action == "set":
            return setattr(target, arguments[0], arguments[1])
        if action == "iterate":
            return self.Held(iter(target))
        if action == "next":
            return next(target)
        if action == "item":
            return target[arguments[0]]
        return len(target)

    class Held:
        """An iterator, which stays here even if its class is a plain one."""

        def __init__(self, iterator: Any) -> None:
            self.iterator = iterator

        def __next__(self) -> Any:
            return next(self.iterator)


def main() -> None:
    tests, started = int(sys.argv[1]), int(sys.argv[2])
    job = confined.read_job()
    channel = Channel(tests)
    module = ModuleType("answer")  # a module of its own: dataclasses and typing look it up
    sys.modules["answer"] = module
    exec(compile(job["prelude"], "prelude", "exec"), module.__dict__)  # noqa: S102
    confined.tell(started, ["started"])
    try:
        exec(compile(job["answer"], "answer", "exec", dont_inherit=True), module.__dict__)  # noqa: S102
    except BaseException as error:  # sys.exit too  # noqa: BLE001
        channel.send(["raised", type(error).__name__, confined.words(error)])
        return
    show_what_was_printed()
    channel.send(["loaded"])
    serve(channel, Answer(module.__dict__))


def show_what_was_printed() -> None:
    """Flush standard output: once the tests have their last reply, this process is killed."""
    with contextlib.suppress(Exception):  # the answer may have closed it, or put something else there
        sys.stdout.flush()


def serve(channel: Channel, answer: Answer) -> None:
    """Reply to messages until the tests end."""
    while True:
        try:
            message = channel.receive()
        except (Ended, Unreadable):
            return
        try:
            reply = answer.do(message)
            show_what_was_printed()
            channel.send(reply)
        except Ended:
            return
        except BaseException as error:  # sys.exit too  # noqa: BLE001
            channel.send(["raised", type(error).__name__, confined.words(error)])


if __name__ == "__main__":
    main()
