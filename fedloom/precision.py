"""How the base model's frozen weights are held, in words."""

from shared.campaign.spec import BaseSection

_ON_A_CPU = {
    "float32": "",
    "bfloat16": "bfloat16 on a CPU",
    "auto": "float32 or bfloat16 on a CPU, by its processor",
}


def precision_in_words(base: BaseSection) -> str:
    """Words that follow the model's name, such as ", nf4, bfloat16 on a CPU". Empty if its weights are float32."""
    return "".join(f", {words}" for words in (base.quantization, _ON_A_CPU[base.cpu_dtype]) if words)


def precision_of_training(base: BaseSection) -> str:
    """As ``precision_in_words``, as a sentence about clients; empty for float32."""
    return {
        "float32": "",
        "bfloat16": "At clients that trained and evaluated on a CPU the base was in bfloat16.",
        "auto": "At clients that trained and evaluated on a CPU the base was in float32 or bfloat16, by the processor.",
    }[base.cpu_dtype]
