"""Chains that an honest coordinator signs, with whatever happens to a campaign, by a seed."""

import random

from shared.digest import sha256_hex
from shared.signing.keys import SigningKey
from tests.support.signed import SignedChain

AGENTS = ("ada", "bob", "cyd", "dan")


def honest_chain(seed: int, moves: int = 25, key: SigningKey | None = None) -> SignedChain:
    """A chain of some moves: rounds open, clients are replaced, adapters come, the campaign is rolled back."""
    draw = random.Random(seed)
    chain = SignedChain(key or SigningKey.generate(), "c1")
    chain.history = draw.choice([0, 0, 7])
    chain.say_specification(sha256_hex(b"spec"))
    for _ in range(moves):
        newest = max(chain.adapters, default=-1)
        number = newest + 1
        match draw.choice(["on", "on", "on", "more clients", "back"]):
            case "back":
                stays = draw.randint(0, newest) if newest >= 0 else None
                chain.say_history(chain.history + draw.randint(1, 9), stays)
            case "more clients" if number in chain.rosters:
                chain.say_roster(number, {*chain.rosters[number], *draw.sample(AGENTS, 3)})
            case _ if number == 0 or number in chain.rosters:
                broadcast = sha256_hex(draw.randbytes(8)) if number and draw.random() < 0.5 else None
                chain.say_adapter(number, sha256_hex(draw.randbytes(8)), broadcast)
            case _:
                chain.say_roster(number, draw.sample(AGENTS, 2))
    return chain
