"""Tokens that a judge may cost: estimated before anything is sent, and counted while it is."""

import threading
from dataclasses import dataclass

MOST_TOKENS = 1_000_000
"""What an evaluation may cost unless a person says otherwise: in and out together."""
_BYTES_A_TOKEN = 3


def tokens_in(n_bytes: int) -> int:
    """About how many tokens a text of so many bytes has. Tokenizers of judges are not here, and English has fewer."""
    return -(-n_bytes // _BYTES_A_TOKEN)


@dataclass(frozen=True)
class Cost:
    """What is asked of a judge, or was. tokens_in: of the prompts. tokens_out: of the replies."""

    calls: int = 0
    tokens_in: int = 0
    tokens_out: int = 0

    @property
    def tokens(self) -> int:
        """All tokens."""
        return self.tokens_in + self.tokens_out

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.calls + other.calls, self.tokens_in + other.tokens_in, self.tokens_out + other.tokens_out)

    def __mul__(self, times: int) -> "Cost":
        return Cost(self.calls * times, self.tokens_in * times, self.tokens_out * times)

    def in_words(self) -> str:
        """``160 requests with 90,000 tokens, and 327,680 tokens of replies``."""
        requests = f"{self.calls:,} request{'s' if self.calls != 1 else ''}"
        return f"{requests} with {self.tokens_in:,} tokens, and {self.tokens_out:,} tokens of replies"


class Budget:
    """Counts tokens. What is in flight counts with the most that it can cost, so the limit holds at every moment.

    Threads may share one.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._lock = threading.Lock()
        self._spent = self._reserved = 0

    @property
    def spent(self) -> int:
        """Tokens of all replies by now."""
        return self._spent

    @property
    def is_in_use(self) -> bool:
        """Whether a request is in flight, of which a part may come back."""
        return self._reserved > 0

    def reserve(self, tokens: int) -> bool:
        """Set tokens aside for a request. False if they are not there: then nothing is changed."""
        with self._lock:
            if self._spent + self._reserved + tokens > self.most:
                return False
            self._reserved += tokens
            return True

    def settle(self, reserved: int, spent: int) -> None:
        """Count what a request did cost, and free the rest of what was set aside for it."""
        with self._lock:
            self._reserved -= reserved
            self._spent += spent
