"""What a backward pass keeps of a token: counted on one row and on half of it, so that what no token adds drops out."""

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


def bytes_per_token(base: Base, attached: AttachedAdapter, rows: TokenRows, *, own_head: bool) -> int:
    """Return the bytes of activations that training keeps of each token of a row alone, with its dropout.

    0 if the model fails in training mode: the step that is tried afterwards says so.
    """
    longest = rows.example(int(rows.lengths.argmax()))
    whole = min(len(longest["input_ids"]), _TOKENS)
    attached.model.train()
    try:
        with tried(base.language_model, own_head=own_head, joins=False), autocast(base.device, base.autocast_dtype):
            add_head(base.language_model)
            kept = []
            for n_tokens in (whole, whole // 2):
                cut = {name: values[:n_tokens] for name, values in longest.items()}
                cut["labels"] = cut["input_ids"][:2] + cut["labels"][2:]  # one is supervised at least
                batch = {key: value.to(base.device) for key, value in collate([cut]).items()}
                with saved_bytes(attached.model) as found:
                    attached.model(**batch, fused_lm_head=True)
                kept += found
    except Exception as error:
        if memory.is_exhausted(error):
            raise
        log.info("what training keeps of a token is not counted", exc_info=True)
        return 0
    finally:
        attached.model.eval()
    return max(0, kept[0] - kept[1]) // (whole - whole // 2)
