"""The precision of the base model on a CPU: by the processor's flags, and what the owner's own setting refuses."""

from typing import Any

import pytest

from agent.configuration.open_policy import OPEN_POLICY
from agent.configuration.processor import cpu_dtype, multiplies_bfloat16
from agent.configuration.settings import AgentSettings, ComputeSettings
from agent.policy.campaign_rules import campaign_refusals
from agent.record.campaigns import Prepared
from tests.agent.parts import FINGERPRINT, campaign_spec

SAPPHIRE_RAPIDS = (
    "processor\t: {n}\nmodel name\t: Intel(R) Xeon(R)\nflags\t\t: fpu sse2 avx2 avx512f avx512_bf16 amx_bf16\n"
)
SKYLAKE = (
    "processor\t: {n}\nmodel name\t: Intel(R) avx512_bf16\nflags\t\t: fpu sse2 avx2 avx512f avx512bw\nbugs\t\t: bf16\n"
)
COOPER_LAKE = "processor\t: {n}\nflags\t\t: fpu avx2 avx512f avx512_bf16\n"
AMX_ALONE = "flags\t\t: fpu avx512f amx_bf16 amx_tile\n"
GRAVITON_3 = "processor\t: 0\nFeatures\t: fp asimd sve i8mm bf16\nCPU part\t: 0xd40\n"
GRAVITON_2 = "processor\t: 0\nFeatures\t: fp asimd i8mm svebf16\nCPU part\t: 0xd0c\n"
NO_FLAGS = "processor\t: 0\ncpu\t\t: POWER9, altivec supported\n"


@pytest.mark.parametrize(
    ("cpuinfo", "is_native"),
    [
        (SAPPHIRE_RAPIDS, True),
        (SAPPHIRE_RAPIDS.format(n=0) + "\n" + SAPPHIRE_RAPIDS.format(n=1), True),
        (GRAVITON_3, True),
        (SKYLAKE, False),
        (COOPER_LAKE, False),  # its products are native, and no faster
        (SAPPHIRE_RAPIDS + COOPER_LAKE, False),
        (AMX_ALONE, False),  # oneDNN takes AMX only together with avx512_bf16
        (GRAVITON_2, False),
        (SAPPHIRE_RAPIDS + SKYLAKE, False),
        (SKYLAKE + SAPPHIRE_RAPIDS, False),
        (NO_FLAGS, False),
        ("", False),
        ("flags\n", False),
        ("flags\t\t:\n", False),
        ("avx512_bf16 bf16", False),
        ("\x00flags:\ufffd bf16\r\n", False),
    ],
)
def test_all_processors_must_have_the_flag(cpuinfo: str, is_native: bool) -> None:
    assert multiplies_bfloat16(cpuinfo) is is_native
    assert cpu_dtype("auto", ComputeSettings(), cpuinfo) == ("bfloat16" if is_native else "float32")


@pytest.mark.parametrize("cpuinfo", [SAPPHIRE_RAPIDS, SKYLAKE])
@pytest.mark.parametrize(
    ("asked", "own", "decided"),
    [
        ("float32", "auto", "float32"),
        ("bfloat16", "auto", "bfloat16"),
        ("float32", "float32", "float32"),
        ("bfloat16", "bfloat16", "bfloat16"),
        ("auto", "float32", "float32"),
        ("auto", "bfloat16", "bfloat16"),
        ("float32", "bfloat16", None),
        ("bfloat16", "float32", None),
        ("float32", "float16", None),
        ("auto", "float16", None),
    ],
)
def test_flags_decide_only_what_campaign_and_owner_leave_open(
    asked: Any, own: Any, decided: str | None, cpuinfo: str
) -> None:
    assert cpu_dtype(asked, ComputeSettings(dtype=own), cpuinfo) == decided


def refusals(asked: str, prepared: Prepared | None = None, **compute: str) -> list[str]:
    settings = AgentSettings.model_validate({"compute": compute}).model_copy(update={"policy": OPEN_POLICY})
    spec = campaign_spec(base={"model": "tiny", "cpu_dtype": asked})
    return [str(each) for each in campaign_refusals(settings, spec, prepared)]


def test_a_contradiction_is_refused_before_anything_is_fetched_if_the_device_is_named() -> None:
    [said] = refusals("bfloat16", device="cpu", dtype="float32")
    assert said == (
        'the base model is in bfloat16 on a CPU (base.cpu_dtype), and compute.dtype = "float32" (leave compute.dtype '
        'out, or set it to "auto": on a CPU the campaign decides)'
    )
    assert refusals("auto", device="cpu", dtype="float32") == []
    assert refusals("bfloat16", device="auto", dtype="float32") == [], "only the child knows the device"


def test_a_setting_that_contradicts_what_was_decided_is_refused() -> None:
    facts: dict[str, Any] = {"fingerprint": FINGERPRINT, "rank": 2, "n_train": 10, "n_held_out": 0}
    facts |= {"n_distinct": 10, "n_distinct_held_out": 0}
    decided = Prepared(**facts, cpu_dtype="bfloat16")
    [said] = refusals("auto", decided, device="cpu", dtype="float32")
    assert said.startswith("the base model is in bfloat16 on a CPU")
    assert refusals("auto", decided, device="cpu") == []
    on_a_gpu = Prepared(**facts)
    assert refusals("auto", on_a_gpu, device="cpu", dtype="float32") == []
    assert refusals("auto", on_a_gpu, device="cpu", dtype="bfloat16") != [], "what was left open is float32 by now"
