"""Checks of uploaded files before they are used. Errors name the tensor and the reason."""

from pathlib import Path

from coordinator.errors import BadUpdate
from shared.adapters.files import AdapterError, AdapterFile, Contract
from shared.adapters.lora import factor_of, shape_at_rank, trained
from shared.campaign.spec import CampaignSpec, LoraSection


def check_update(path: Path, contract: Contract) -> None:
    """Raise BadUpdate unless the file has exactly the contract's tensors, all finite."""
    try:
        with AdapterFile(path) as file:
            contract.check(file)
    except AdapterError as error:
        raise BadUpdate(error.reason, error.tensor) from error


def check_adapter_zero(path: Path, lora: LoraSection) -> Contract:
    """The contract of adapter 0. Raises BadUpdate unless it is a LoRA adapter of the campaign's rank in F32."""
    try:
        with AdapterFile(path) as file:
            contract = file.contract
            contract.check(file)
    except AdapterError as error:
        raise BadUpdate(error.reason, error.tensor) from error
    if not contract.tensors:
        message = "the adapter has no tensors"
        raise BadUpdate(message)
    factors: dict[str, set[str]] = {}
    for name, spec in contract.tensors.items():
        module_factor = factor_of(name)
        if module_factor is None:
            raise BadUpdate("not a LoRA factor; expected NAME.lora_A.weight or NAME.lora_B.weight", name)
        module, factor = module_factor
        if spec.dtype != "F32":
            raise BadUpdate(f"dtype {spec.dtype}, expected F32", name)
        if len(spec.shape) != 2 or spec.shape != shape_at_rank(name, spec.shape, lora.rank):
            raise BadUpdate(f"shape {list(spec.shape)} does not have rank {lora.rank}", name)
        factors.setdefault(module, set()).add(factor)
    for module, present in factors.items():
        for missing in sorted({"A", "B"} - present):
            raise BadUpdate(f"factor {missing} is missing", module)
    return contract


def check_parts(contract: Contract, spec: CampaignSpec) -> None:
    """Raise BadUpdate if the algorithm cannot aggregate an adapter with this contract."""
    try:
        spec.algorithm.server_half().check_adapter(trained(contract, spec.lora))
    except AdapterError as error:
        raise BadUpdate(error.reason, error.tensor) from error
