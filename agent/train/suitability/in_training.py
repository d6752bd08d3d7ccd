"""How a base computes in training mode: what a backward pass keeps of a token, and whether anything is drawn."""

import logging

from agent.train.base.attached import AttachedAdapter
from agent.train.base.device import autocast
from agent.train.base.model import Base
from agent.train.data.tokens import TokenRows
from agent.train.process import memory
from agent.train.suitability.trying import tried
from agent.train.trainer.loss import collate
from agent.train.trainer.need import saved_bytes
from agent.train.trainer.scoring import add_head

log = logging.getLogger(__name__)

_TOKENS = 256
_ROUNDING = 1e-3
"""Nats by which a GPU may compute a token otherwise a second time."""


def in_training(base: Base, attached: AttachedAdapter, rows: TokenRows, *, own_head: bool) -> tuple[int, bool]:
    """Return the bytes of activations that training keeps of each token of a row alone, and whether it draws at random.

    What is kept is counted on a row and on half of it, so that what no token adds drops out. 0 and true if the model
    fails in training mode: the step that is tried afterwards says so.
    """
    longest = rows.example(int(rows.lengths.argmax()))
    whole = min(len(longest["input_ids"]), _TOKENS)
    attached.model.train()
    try:
        with tried(base.language_model, own_head=own_head, joins=False), autocast(base.device, base.autocast_dtype):
            add_head(base.language_model)
            kept, log_probs = [], []
            for n_tokens in (whole, whole, whole // 2):
                cut = {name: values[:n_tokens] for name, values in longest.items()}
                cut["labels"] = cut["input_ids"][:2] + cut["labels"][2:]  # one is supervised at least
                batch = {key: value.to(base.device) for key, value in collate([cut]).items()}
                with saved_bytes(attached.model) as found:
                    output = attached.model(**batch, fused_lm_head=True)
                kept += found
                log_probs.append(output.log_probs.detach())
    except Exception as error:
        if memory.is_exhausted(error):
            raise
        log.info("what training keeps of a token is not counted", exc_info=True)
        return 0, True
    finally:
        attached.model.eval()
    draws = not float((log_probs[0] - log_probs[1]).abs().max()) <= _ROUNDING
    return max(0, kept[0] - kept[2]) // (whole - whole // 2), draws
