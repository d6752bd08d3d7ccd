"""``fedloom adapter merge``: base model and adapter as one model."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from fedloom.cli import output
from fedloom.cli.adapter.local_child import AdapterFolder, BaseFolder, lora_file, open_child, progress_status
from fedloom.cli.output import AsJson

if TYPE_CHECKING:
    from agent.orders.on_base.merge import Merged
    from fedloom.adapters.local import LocalAdapter


def merge(
    adapter: AdapterFolder,
    out: Annotated[Path, typer.Option("--out", help="The folder to write.")],
    base: BaseFolder = None,
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"],
        typer.Option(help="Precision of the written weights. The merge itself is computed in float32."),
    ] = "float32",
    force: Annotated[
        bool, typer.Option("--force", help="Replace an existing folder of an adapter or a model.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Merge an adapter into its base model; the result loads without PEFT.

    The merged model is loaded again and checked: if its logits differ from
    those of base and adapter, nothing is written. Needs the extra `agent`.

    Example: fedloom adapter merge clinic-adapter --out clinic-model
    """
    from fedloom.adapters.local import read_adapter_folder

    local_adapter = read_adapter_folder(adapter)
    merged = _merge(local_adapter, base, out, dtype, force=force)
    n_bytes = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    if as_json:
        sha256 = local_adapter.sha256
        facts = {"folder": str(out.absolute()), "adapter_sha256": sha256, "dtype": dtype, "n_bytes": n_bytes}
        output.print_json({**facts, **merged.model_dump(mode="json", exclude={"type"})})
        return
    output.say(f"wrote {local_adapter.name}, merged into its base model, to {out} ({output.size(n_bytes)}, {dtype})")
    output.say(f"its logits differ from those of base and adapter by at most {merged.merge_difference:.2g}", nl=False)
    output.say(f"; after rounding to {dtype}, by at most {merged.file_difference:.2g}" if dtype != "float32" else "")


def _merge(
    adapter: "LocalAdapter",
    base: Path | None,
    out: Path,
    dtype: Literal["float32", "bfloat16", "float16"],
    *,
    force: bool,
) -> "Merged":
    from agent.orders.on_base.merge import MergeRequest
    from fedloom.adapters.atomic_folder import atomic_folder
    from fedloom.adapters.folder import CARD_FILE
    from fedloom.adapters.merged_card import merged_card

    for source in (adapter.folder, base or Path(adapter.base.model)):
        if source.resolve().is_relative_to(out.resolve()):
            message = f"{out} contains the adapter or the base model; choose another folder"
            raise typer.BadParameter(message, param_hint="--out")
    with (
        atomic_folder(out, force=force) as draft,
        open_child(adapter, base) as child,
        progress_status("starting") as show,
    ):
        order = MergeRequest(
            model=child.model, compute=child.compute, adapter=lora_file(adapter), dtype=dtype, folder=draft.absolute()
        )
        merged = child.run(order, show)
        card = merged_card(
            adapter,
            dtype=dtype,
            merge_difference=merged.merge_difference,
            file_difference=merged.file_difference,
        )
        (draft / CARD_FILE).write_text(card, encoding="utf-8")
        return merged
