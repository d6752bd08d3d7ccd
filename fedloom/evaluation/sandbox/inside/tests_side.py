"""The tests' process: runs the tests, which call the answer in its own process, and prints the token after the last."""

import builtins
import sys
from typing import Any, NoReturn

from . import confined
from .wire import Channel, Ended, Unreadable, decode, encode


class AnswerRaised(Exception):
    """The answer raised an exception of its own class, or ended its process."""


class Remote:
    """An object in the answer's process. It is equal to itself alone: an answer has no say in a comparison."""

    def __init__(self, line: "Line", number: int, kind: str) -> None:
        self.__dict__.update(_line=line, _number=number, _kind=kind)

    def __call__(self, *positional: Any, **named: Any) -> Any:
        return self._line.ask("call", self, *positional, named)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._line.ask("get", self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._line.ask("set", self, name, value)

    def __iter__(self) -> Any:
        return self._line.ask("iterate", self)

    def __next__(self) -> Any:
        return self._line.ask("next", self)

    def __getitem__(self, key: Any) -> Any:
        return self._line.ask("item", self, key)

    def __len__(self) -> int:
        return int(self._line.ask("length", self))

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"<{self._kind} of the answer>"


class Line:
    """The line to the answer's process."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.is_broken = True  # until the first reply, and again while one is awaited

    def ask(self, action: str, target: Remote | str, *arguments: Any) -> Any:
        """Have the answer's process do something. Raises what the answer raised, as far as it is built in."""
        self.is_broken = True
        if isinstance(target, str):
            self.channel.send([action, target])
        else:
            self.channel.send([action, target._number, *(encode(each, self.give) for each in arguments)])
        reply = self.channel.receive()
        try:
            if reply[0] == "raised":
                _, kind, text = reply
                self.is_broken = False
                fail_as(str(kind), str(text))
            _, value, changed = reply
            for index, after in changed:
                change(arguments[index], decode(after, self.find))
            found = decode(value, self.find)
        except (TypeError, ValueError, IndexError) as error:
            if reply[0] == "raised":
                raise
            raise Unreadable("a reply is no reply") from error
        self.is_broken = False
        return found

    def give(self, value: Any) -> list[Any]:
        if isinstance(value, Remote):
            return ["handle", value._number]
        raise TypeError(f"tests cannot hand a {type(value).__name__} to an answer")

    def find(self, body: Any) -> Remote:
        number, kind = body
        return Remote(self, int(number), str(kind)[:100])


def fail_as(kind: str, text: str) -> NoReturn:
    """Raise the built-in exception of this name, or one that says it."""
    found = getattr(builtins, kind, None)
    if isinstance(found, type) and issubclass(found, Exception):
        try:
            error = found("" if text == kind else text.removeprefix(f"{kind}: "))
        except TypeError:  # it takes other arguments
            raise AnswerRaised(text) from None
        raise error
    raise AnswerRaised(text)


def change(argument: Any, after: Any) -> None:
    """Have an argument that the answer changed in place look as the answer left it."""
    if isinstance(argument, list | bytearray) and isinstance(after, type(argument)):
        argument[:] = after
    elif isinstance(argument, dict | set) and isinstance(after, type(argument)):
        argument.clear()
        argument.update(after)


def main() -> None:
    answer, verdict = int(sys.argv[1]), int(sys.argv[2])
    job = confined.read_job()
    token = job["token"]
    names: dict[str, Any] = {"__name__": "tests"}
    try:
        tests = compile(job["tests"], "tests", "exec", dont_inherit=True)
        exec(compile(job["support"], "support", "exec", dont_inherit=True), names)  # noqa: S102
    except BaseException as error:  # noqa: BLE001
        confined.tell(verdict, ["broken", f"the tests cannot be run: {confined.words(error)}"])
        return
    confined.tell(verdict, ["started"])
    line = Line(Channel(answer))
    try:
        begin(line, job["names"], names)
        exec(tests, names)  # noqa: S102
    except Ended:
        confined.tell(verdict, ["failed", "the answer ended its process"])
    except MemoryError as error:
        confined.tell(verdict, ["memory", confined.words(error)])
    except BaseException as error:  # noqa: BLE001
        confined.tell(verdict, ["failed", confined.words(error)])
    else:
        ending = ["failed", "the answer's process broke off"] if line.is_broken else ["passed", token]
        confined.tell(verdict, ending)


def begin(line: Line, wanted: list[str], names: dict[str, Any]) -> None:
    """Wait until the answer has run, and bind the names that tests take from it."""
    message = line.channel.receive()
    if message[0] != "loaded":
        _, kind, text = message if len(message) == 3 else ("", "", "the answer sent what is no message")
        fail_as(str(kind), str(text))
    for name in wanted:
        try:
            names[name] = line.ask("name", name)
        except KeyError:
            raise NameError(f"the answer does not define {name}") from None


if __name__ == "__main__":
    main()
