"""A trainer of one's own: a loop in plain PyTorch, without TRL. It trains the kind ``sft`` on bases in float32 and
bfloat16.

A patched stack replaces what it does better: how the model is loaded, how the adapter is attached, how a step is
computed. Import what patches other libraries first.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM

from agent.train.base.device import autocast
from agent.train.base.loading import ModelSource
from agent.train.data.tokens import IGNORED, TokenRows
from agent.train.stack.base import Example, Training, UnfitForTrainer
from agent.train.stack.base import Stack as TrainerStack
from agent.train.trainer.loss import collate
from agent.train.trainer.scoring import Scoring
from shared.campaign.spec import LoraSection


class Stack(TrainerStack):
    def load(self, source: ModelSource) -> Any:
        if source.quantization is not None or source.dtype == torch.float16:
            raise UnfitForTrainer("it takes bases in float32 and bfloat16, not quantised")
        model = AutoModelForCausalLM.from_pretrained(
            source.folder,
            dtype=source.dtype,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=source.remote_code,
        )
        return model.to(source.device)

    def attach(self, model: Any, lora: LoraSection, targets: Sequence[str]) -> Any:
        config = LoraConfig(
            r=lora.rank,
            lora_alpha=lora.alpha,
            lora_dropout=lora.dropout,
            target_modules=list(targets),
            task_type="CAUSAL_LM",
        )
        return get_peft_model(model, config)

    def train(self, training: Training) -> None:
        if training.kind != "sft":
            raise UnfitForTrainer("it trains the kind sft only")
        model, settings, section = training.attached.model, training.settings, training.settings.training
        torch.manual_seed(settings.seed)  # of dropout
        parameters = list(training.attached.trained_parameters.values())
        make = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}[section.optimizer]
        optimizer = make(parameters, lr=settings.learning_rate, weight_decay=section.weight_decay)
        model.train()
        for examples in training.steps():
            rate = training.learning_rate
            optimizer.param_groups[0]["lr"] = rate
            optimizer.zero_grad()
            loss = self._backward(model, examples, settings.micro_batch, settings.autocast_dtype)
            training.client_steps.add_gradient_terms()
            if section.max_grad_norm is not None:
                nn.utils.clip_grad_norm_(parameters, section.max_grad_norm)
            optimizer.step()
            n_tokens = sum(len(example["input_ids"]) for example in examples)
            training.client_steps.stepped(loss=loss, tokens=n_tokens, learning_rate=rate)

    def _backward(self, model: Any, examples: Sequence[Example], micro_batch: int, dtype: torch.dtype | None) -> float:
        """The mean loss over the supervised tokens of a step, and its gradient."""
        n_supervised = sum(label != IGNORED for example in examples for label in example["labels"][1:])
        loss = 0.0
        for begin in range(0, len(examples), micro_batch):
            part = self._losses(model, examples[begin : begin + micro_batch], dtype).sum() / n_supervised
            part.backward()
            loss += part.item()
        return loss

    def evaluate(self, model: Any, rows: TokenRows, scoring: Scoring) -> NDArray[np.float64]:
        model.eval()
        sums = np.empty(len(rows))
        with torch.no_grad():
            for begin in range(0, len(rows), scoring.micro_batch):
                batch = range(begin, min(begin + scoring.micro_batch, len(rows)))
                losses = self._losses(model, [rows.example(index) for index in batch], scoring.autocast_dtype)
                sums[batch] = -losses.double().sum(dim=1).cpu().numpy()
                scoring.report(batch.stop)
        return sums

    def _losses(self, model: Any, examples: Sequence[Example], dtype: torch.dtype | None) -> Tensor:
        """−log p of each supervised token, and 0 of others, (rows, tokens − 1)."""
        batch = {name: values.to(model.device) for name, values in collate(examples).items()}
        labels = batch.pop("labels")[:, 1:]
        with autocast(model.device, dtype):
            logits = model(**batch, use_cache=False).logits[:, :-1].float()  # (rows, tokens − 1, vocabulary)
        return cross_entropy(logits.transpose(1, 2), labels, ignore_index=IGNORED, reduction="none")
