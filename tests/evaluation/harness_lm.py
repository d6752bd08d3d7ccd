"""lm-evaluation-harness's own model over a folder or a PEFT model, and requests for it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from transformers import AutoModelForCausalLM, AutoTokenizer

from fedloom.evaluation.asking.requests import Generate, Likelihood


def hflm(folder: Path, model: Any = None, *, dtype: torch.dtype = torch.float32, **changes: Any) -> Any:
    """The harness's model. model: of transformers or PEFT; None loads the folder."""
    model = model or AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
    return HFLM(pretrained=model, tokenizer=AutoTokenizer.from_pretrained(folder), batch_size=4, **changes)


def log_likelihoods(lm: Any, requests: Sequence[Likelihood]) -> list[tuple[float, bool]]:
    """The harness's log-likelihoods, and whether greedy decoding gives the continuation."""
    instances = [Instance("loglikelihood", {}, (each.context, each.continuation), i) for i, each in enumerate(requests)]
    scored: list[tuple[float, bool]] = lm.loglikelihood(instances, disable_tqdm=True)
    return scored


def rolling(lm: Any, texts: Sequence[str]) -> list[float]:
    """The harness's log-likelihoods of whole texts."""
    instances = [Instance("loglikelihood_rolling", {}, (text,), i) for i, text in enumerate(texts)]
    sums: list[float] = lm.loglikelihood_rolling(instances, disable_tqdm=True)
    return sums


def texts(lm: Any, requests: Sequence[Generate]) -> list[str]:
    """The harness's greedy texts."""
    instances = [
        Instance(
            "generate_until",
            {},
            (each.prompt, {"until": list(each.stop), "max_gen_toks": each.max_new_tokens, "do_sample": False}),
            i,
        )
        for i, each in enumerate(requests)
    ]
    generated: list[str] = lm.generate_until(instances, disable_tqdm=True)
    return generated
