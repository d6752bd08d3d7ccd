"""Rows end to end: the same loss and gradient as padded rows have, or padded rows and the reason."""

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS  # noqa: E402

from agent.train.base.model import Base  # noqa: E402
from agent.train.data.tokens import TokenRows  # noqa: E402
from agent.train.suitability.measure import measure  # noqa: E402
from agent.train.suitability.trying import tried  # noqa: E402
from agent.train.trainer.layout import lay_out  # noqa: E402
from agent.train.trainer.loss import collate  # noqa: E402
from agent.train.trainer.packing import joined  # noqa: E402
from agent.train.trainer.recomputing import can_recompute, recomputed  # noqa: E402
from agent.train.trainer.scoring import add_head  # noqa: E402
from shared.campaign.spec import LoraSection  # noqa: E402
from tests.zoo.families import FAMILIES, Family  # noqa: E402

pytestmark = pytest.mark.train

PADDED = {
    "would look at all pairs of tokens": (
        *("Gemma 2, capped logits", "GPT-Neo, local attention", "GPT-J", "CodeGen", "BLOOM", "MPT", "XGLM", "gpt-oss"),
    ),
    "it carries a state from token to token": (
        *("RWKV", "RecurrentGemma", "Bamba, hybrid", "xLSTM", "Qwen3-Next, hybrid with experts", "Mamba", "Mamba 2"),
        *("Falcon-H1, hybrid", "Jamba, hybrid with experts", "LFM2, convolutions"),
    ),
    "its own head scores them": (
        *("ModernBERT decoder, transformed head", "BERT decoder, transformed head", "Llama 4, text"),
    ),
    "with other rows before it, a row has another loss": ("Falcon", "BART decoder alone"),
}
"""Families whose rows are padded, by the reason; those of all others are joined."""
REASONS = {name: reason for reason, names in PADDED.items() for name in names}
CONTROLS = {
    *("Llama", "GPT-2, transposed weights", "Phi-3, fused projections", "Cohere, scaled logits"),
    *("Granite, scaled logits", "Mistral, sliding window", "Gemma 2, capped logits", "GPT-J", "MPT", "XGLM"),
    *("LFM2, convolutions", "Mamba 2", "Falcon", "BERT decoder, transformed head"),
}
LENGTHS = (40, 3, 17, 2, 90)
"""Of rows, some longer than the windows of 16 tokens that these models have, others with one supervised token."""


def rows_of(base: Base) -> TokenRows:
    generator = torch.Generator().manual_seed(5)
    n_tokens = base.language_model.config.get_text_config().vocab_size
    rows = [torch.randint(3, n_tokens, (length,), generator=generator).tolist() for length in LENGTHS]
    for row, fork in FORKS:
        rows.append([*rows[row][:fork], *rows[row][: fork - 1 : -1]])
    return TokenRows.of([(tokens, [place >= len(tokens) // 2 for place in range(len(tokens))]) for tokens in rows])


FORKS = ((4, 60), (4, 30), (5, 80), (2, 17))
"""Further rows: each begins as an earlier one does up to a token, the last one to its end."""


CLAMPED = {"Gemma 3n, text"}
"""Families that clamp coefficients in training, so that a loss in evaluation is no measure for it."""


def trained_families() -> list[Any]:
    found = [family for family in FAMILIES if not family.refusal or family.targets]
    return [pytest.param(each, id=each.name, marks=() if each.name in CONTROLS else pytest.mark.deep) for each in found]


def base_of(family: Family, folder: Path) -> Base:
    return Base(family.make(folder), torch.device("cpu"), torch.float32, remote_code=False)


@pytest.mark.parametrize("family", trained_families())
def test_joined_rows_have_the_loss_and_the_gradient_of_padded_ones_or_are_not_joined(
    family: Family, tmp_path: Path
) -> None:
    base = base_of(family, tmp_path)
    lora = LoraSection(rank=4, alpha=8, target_modules=list(family.targets) or "all-linear")
    rows = rows_of(base)
    measured = measure(base, lora, rows, micro_batch=4, exact=True)
    if (reason := REASONS.get(family.name)) is not None:
        assert measured.padded_because is not None
        assert reason in measured.padded_because
        return
    assert measured.padded_because is None
    assert measured.shares
    results: list[Any] = []
    ways = [({"joins": False}, False), ({"joins": True}, False), ({"joins": True, "shares": True}, False)]
    if can_recompute(base.language_model) and not measured.draws and family.name not in CLAMPED:
        ways.append(({"joins": True, "shares": True}, True))
    for way, recomputes in ways:
        with (
            base.adapter(lora, seed=0) as attached,
            tried(base.language_model, own_head=False, **way),
            recomputed(base.language_model, recomputes=recomputes),
        ):
            for seed, parameter in enumerate(attached.parameters.values()):
                values = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed))
                parameter.data.copy_(0.1 * values)
            attached.model.train(recomputes)  # evaluation has no dropout, and layers compute again in training only
            add_head(base.language_model)
            output = attached.model(**collate([rows.example(each) for each in range(len(rows))]), fused_lm_head=True)
            loss = -output.log_probs.sum() / output.label_mask.sum()
            loss.backward()
            gradients = {name: each.grad for name, each in attached.parameters.items() if each.grad is not None}
            results.append((output.log_probs.detach(), loss.item(), gradients))
    padded, padded_loss, padded_gradients = results[0]
    for log_probs, loss, gradients in results[1:]:
        torch.testing.assert_close(log_probs, padded, atol=2e-5, rtol=0)
        assert loss == pytest.approx(padded_loss, abs=1e-6)
        assert gradients.keys() == padded_gradients.keys()
        for name, gradient in gradients.items():
            torch.testing.assert_close(gradient, padded_gradients[name], atol=1e-6, rtol=1e-4)


def test_a_mask_that_knows_nothing_of_rows_lets_none_see_another() -> None:
    """Some models make the mask of a window without the positions that restart."""
    lengths, window = (5, 2, 9), 3
    mask_of_rows = torch.zeros(3, 9, dtype=torch.long)
    for row, length in enumerate(lengths):
        mask_of_rows[row, :length] = 1
    query, key, value = (torch.randn(1, 4, 16, 8, generator=torch.Generator().manual_seed(seed)) for seed in range(3))
    module, attend = torch.nn.Module(), ALL_ATTENTION_FUNCTIONS["sdpa"]

    def window_mask(n_tokens: int) -> Any:
        distance = torch.arange(n_tokens)[:, None] - torch.arange(n_tokens)[None, :]
        return ((distance >= 0) & (distance < window))[None, None]

    layout = lay_out(mask_of_rows, mask_of_rows, shares=False)
    with joined(layout):
        together, _ = attend(module, query, key, value, window_mask(16))
        with pytest.raises(RuntimeError, match="16 tokens of joined rows meet attention over 15"):
            attend(module, query[:, :, 1:], key[:, :, 1:], value[:, :, 1:], None)
    assert layout.positions()[0].tolist() == [*range(5), *range(2), *range(9)]
    for begin, length in ((0, 5), (5, 2), (7, 9)):
        part = (tensor[:, :, begin : begin + length] for tensor in (query, key, value))
        alone, _ = attend(module, *part, window_mask(length))
        torch.testing.assert_close(together[:, begin : begin + length], alone)


@pytest.mark.parametrize("joins", [True, False])
@pytest.mark.parametrize("mask", [[0, 0, 1, 1], [1, 0, 1, 1], [0, 0, 0, 0]], ids=["left", "within", "empty"])
def test_rows_that_are_not_padded_on_the_right_are_refused(tmp_path: Path, mask: list[int], joins: bool) -> None:
    base = base_of(FAMILIES[0], tmp_path)
    batch = collate([rows_of(base).example(1)] * 2)
    batch = {name: torch.cat([values, values[:, -1:]], dim=1) for name, values in batch.items()}  # four tokens
    batch["attention_mask"][1] = torch.tensor(mask)
    with base.without_adapter() as model, tried(model, own_head=False, joins=joins):
        add_head(model)
        with pytest.raises(ValueError, match="rows must be padded on the right"):
            model(**batch, fused_lm_head=True)
