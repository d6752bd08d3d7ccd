"""Presets: hub ids and column names of well-known data sets.

To add one, add an entry with the keys of a data table in agent.toml: ``hub``, ``split``, and the names of columns.
"""

from typing import Any

_ALPACA = {"prompt": "instruction", "input": "input", "completion": "output"}

PRESETS: dict[str, dict[str, Any]] = {
    "alpaca": {"hub": "tatsu-lab/alpaca", **_ALPACA},
    "alpaca-gpt4": {"hub": "vicgalle/alpaca-gpt4", **_ALPACA},
    "fingpt-sentiment": {"hub": "FinGPT/fingpt-sentiment-train", **_ALPACA},
    # the prompt is "input": "instruction" is the same in every row ("Answer this question truthfully")
    "medical-flashcards": {
        "hub": "medalpaca/medical_meadow_medical_flashcards",
        "prompt": "input",
        "completion": "output",
    },
    "code-alpaca": {"hub": "lucasmccabe-lmi/CodeAlpaca-20k", **_ALPACA},
    "math-instruct": {
        "hub": "TIGER-Lab/MathInstruct",
        "prompt": "instruction",
        "completion": "output",
        "unique": "instruction",
    },
    "ultrafeedback": {
        "hub": "HuggingFaceH4/ultrafeedback_binarized",
        "split": "train_prefs",
        "prompt": "prompt",
        "chosen": "chosen",
        "rejected": "rejected",
    },
    "hh-rlhf": {"hub": "Anthropic/hh-rlhf", "chosen": "chosen", "rejected": "rejected"},
}
LOCATION_KEYS = ("path", "hub", "split", "revision")
"""The keys that locate data. The owner's own ``path`` or ``hub`` replaces all of them in a preset."""
