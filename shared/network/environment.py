"""Environment variables that cannot be used."""


class BadEnvironment(ValueError):
    """An environment variable has a value that cannot be used. The message names the variable, and no password."""

    def __init__(self, variable: str, reason: str) -> None:
        self.variable = variable
        self.reason = reason
        super().__init__(f"{variable} {reason}")
