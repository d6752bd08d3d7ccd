"""A Llama with one oddity, as code that comes with a model. It is copied into a model's folder."""

import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM


class OddConfig(LlamaConfig):
    """oddity: see ``OddForCausalLM``."""

    model_type = "odd"

    def __init__(self, oddity: str = "", **kwargs):
        self.oddity = oddity
        super().__init__(**kwargs)


class OddForCausalLM(LlamaForCausalLM):
    """A Llama whose configuration names its oddity.

    ``warmer`` divides the logits, and ``capped`` caps them, under no name that a library knows. ``peeks`` adds the
    logits of the next position, and ``peeks-far`` does so in long rows only. ``mixes`` lets the rows of a batch change
    one another. ``spare`` has a layer that it never calls, and ``idle`` one whose output it drops. ``stiff`` passes no
    gradient. ``noisy`` adds noise in training mode. ``overflows`` has logits that are not finite, and ``diverges`` in
    training mode only. ``fails`` and ``asserts`` raise errors, and ``trains-badly`` does so in training mode only.
    """

    config_class = OddConfig

    def __init__(self, config):
        super().__init__(config)
        if config.oddity in ("spare", "idle"):
            self.spare = nn.Linear(config.hidden_size, config.hidden_size)
        self.model.register_forward_hook(self._change_hidden_states)
        self.post_init()

    def _change_hidden_states(self, backbone, _inputs, output):
        hidden = output.last_hidden_state  # (batch, tokens, width)
        if self.config.oddity == "mixes" and len(hidden) > 1:
            output.last_hidden_state = hidden - hidden.mean(dim=0, keepdim=True)
        elif self.config.oddity == "idle":
            output.last_hidden_state = hidden + 0 * self.spare(hidden)
        elif self.config.oddity == "diverges" and backbone.training:
            output.last_hidden_state = hidden * float("nan")
        elif self.config.oddity == "noisy" and backbone.training:
            output.last_hidden_state = hidden + 0.1 * torch.randn_like(hidden)
        elif self.config.oddity == "stiff":
            output.last_hidden_state = hidden.detach()
        elif self.config.oddity == "trains-badly" and backbone.training:
            raise ValueError("a secret of a row")

    def forward(self, *args, **kwargs):
        oddity = self.config.oddity
        if oddity == "fails":
            raise ValueError("a secret of a row")
        assert oddity != "asserts", "a secret of a row"
        output = super().forward(*args, **kwargs)
        logits = output.logits
        if oddity == "warmer":
            logits = logits / 2
        elif oddity == "capped":
            logits = 3 * torch.tanh(logits / 3)
        elif oddity == "peeks" or (oddity == "peeks-far" and logits.shape[1] > 64):
            logits = logits + logits.roll(-1, dims=1)
        elif oddity == "overflows":
            logits = logits * float("inf")
        output.logits = logits
        return output
