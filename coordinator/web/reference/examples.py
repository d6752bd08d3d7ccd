"""Examples of request bodies in the OpenAPI document, by the name of the schema."""

from typing import Any

_DIGEST = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

EXAMPLES: dict[str, dict[str, Any]] = {
    "CampaignSpec": {
        "name": "clinic-notes",
        "base": {"model": "HuggingFaceTB/SmolLM2-135M-Instruct"},
        "lora": {"rank": 8},
        "training": {"steps": 20, "batch_size": 16},
        "data": {"name": "notes"},
        "rounds": 10,
        "selection": {"labels": {"site": "north"}},
    },
    "TokenCreate": {"labels": {"site": "north"}, "expires_in_s": 86400, "note": "for the clinic"},
    "EnrollmentRequest": {"token": "fle_example", "name": "clinic-a", "version": "1.0", "secret_hash": _DIGEST},
    "SecretRequest": {"secret_hash": _DIGEST},
    "PartRequest": {"part": "takes-part"},
    "RollbackRequest": {"round": 3},
    "VerificationRequest": {"rounds": [0, 3]},
    "LeaseRequest": {"instance_id": "5b1f0c9e", "version": "1.0"},
    "RenewRequest": {"progress": {"phase": "training", "done": 3, "total": 20, "loss": 2.31}},
    "Failure": {"kind": "data", "message": "there is no data named notes here: add a table [data.notes]"},
}
