"""The campaign file: valid input, and the line and field of each error."""

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.campaign.file import CampaignFileError, FileProblem, parse_campaign, read_campaign_file
from shared.campaign.spec import CampaignSpec
from tests.support.suite.tiers import deep

GOOD = """\
name: clinic
base:
  model: HuggingFaceTB/SmolLM2-135M-Instruct
training:
  steps: 10
data:
  name: notes
rounds: 3
"""


def problems(text: str) -> list[FileProblem]:
    with pytest.raises(CampaignFileError) as caught:
        parse_campaign(text)
    return caught.value.problems


def problem(text: str) -> str:
    (only,) = problems(text)
    return str(only)


# --- valid files


def test_the_least_file_gets_the_documented_defaults() -> None:
    spec = parse_campaign(GOOD)
    assert (spec.kind, spec.algorithm.name, spec.lora.target_modules) == ("sft", "fedavg", "all-linear")
    assert (spec.lora.rank, spec.lora.alpha, spec.selection.minimum) == (8, 16.0, 3)
    assert spec.weighting.by == "examples"


def test_json_and_yaml_and_the_model_itself_agree() -> None:
    spec = parse_campaign(GOOD)
    dumped = spec.model_dump(mode="json")
    assert parse_campaign(json.dumps(dumped)) == spec
    assert parse_campaign(json.dumps(dumped, indent="\t")) == spec
    assert CampaignSpec.model_validate(dumped) == spec


def test_json_with_tabs_keeps_line_numbers() -> None:
    text = json.dumps({**parse_campaign(GOOD).model_dump(mode="json"), "rounds": 0}, indent="\t")
    line = next(number for number, row in enumerate(text.splitlines(), 1) if '"rounds"' in row)
    assert problem(text) == f"line {line}: rounds: Input should be greater than or equal to 1"


def test_a_number_in_scientific_form_without_a_dot_is_a_number() -> None:
    # YAML 1.1 reads 1e-4 as text
    assert parse_campaign(GOOD.replace("steps: 10", "steps: 10\n  learning_rate: 1e-4")).training.learning_rate == 1e-4


def test_unions_take_each_of_their_forms() -> None:
    spec = parse_campaign(
        GOOD + "lora: {target_modules: [q_proj, v_proj]}\nselection: {clients_per_round: 4}\nretention: {adapters: 7}\n"
    )
    assert spec.lora.target_modules == ["q_proj", "v_proj"]
    assert spec.selection.clients_per_round == 4
    assert spec.retention.adapters == 7


def test_a_file_is_read_from_disk_and_named_in_its_errors(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(GOOD)
    assert read_campaign_file(path) == parse_campaign(GOOD)
    path.write_text(GOOD + "round: 3\n")
    with pytest.raises(CampaignFileError) as caught:
        read_campaign_file(path)
    assert str(caught.value) == f"{path}, line 9: round: unknown field; did you mean 'rounds'?"
    path.write_bytes(b"name: \xff\n")
    with pytest.raises(CampaignFileError, match="not UTF-8"):
        read_campaign_file(path)
    with pytest.raises(FileNotFoundError):
        read_campaign_file(tmp_path / "none")


# --- errors


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (GOOD.replace("rounds: 3", "rounds: 0"), "line 8: rounds: Input should be greater than or equal to 1"),
        (GOOD.replace("rounds: 3", "rounds: .inf"), "line 8: rounds: Input should be a valid integer"),
        (GOOD.replace("steps: 10", "steps: ten"), "line 5: training.steps: Input should be a valid integer"),
        (GOOD.replace("rounds: 3\n", ""), "line 1: rounds: this field is needed"),
        (GOOD.replace("  name: notes", "  template: chat"), "line 6: data.name: this field is needed"),
        (GOOD + "round: 3\n", "line 9: round: unknown field; did you mean 'rounds'?"),
        (
            GOOD.replace("steps: 10", "steps: 10\n  lerning_rate: 1"),
            "line 6: training.lerning_rate: unknown field; did you mean 'learning_rate'?",
        ),
        (
            GOOD + "weighting: {xyzzy: 1}\n",
            "line 9: weighting.xyzzy: unknown field; known here are by, max_examples",
        ),
        (GOOD + "rounds: 4\n", "line 9: rounds: given twice, first on line 8"),
        (GOOD.replace("model: H", "model: a\n  model: H"), "line 4: base.model: given twice, first on line 3"),
        (GOOD + "kind: ppo\n", "line 9: kind: unknown kind of training 'ppo'; known are dpo, sft"),
        (GOOD + "kind: 3\n", "line 9: kind: Input should be a valid string"),
        (GOOD + "dpo: {beta: 1}\n", "line 9: dpo: only a campaign of kind dpo has it; this one is of kind sft"),
        (GOOD + "kind: dpo\ndop: {beta: 1}\n", "line 10: dop: unknown field; did you mean 'dpo'?"),
        (GOOD + "1.5: x\n", "line 1: Keys should be strings"),
        (GOOD + "null: x\n", "line 1: Keys should be strings"),
        (GOOD + "sft: {}\n", "line 9: sft: unknown field; known here are name"),
        (GOOD + "kind: dpo\ndpo: 3\n", "line 10: dpo: needs fields of its own: beta, loss"),
        (GOOD + "kind: dpo\ndpo:\n  beta: 0\n", "line 11: dpo.beta: Input should be greater than 0"),
        (GOOD + "kind: dpo\ndpo:\n  bta: 1\n", "line 11: dpo.bta: unknown field; did you mean 'beta'?"),
        (GOOD + "kind: dpo\ndpo: {label_smoothing: 0.1}\n", "line 10: dpo.label_smoothing: the loss sigmoid has none"),
        (GOOD.replace("clinic", "my clinic"), "line 1: name: only letters, digits"),
        (GOOD + "start_from: taught/١\n", "line 9: start_from: give CAMPAIGN/final, CAMPAIGN/best or CAMPAIGN/NUMBER"),
        (GOOD + "start_sha256: ab12\n", "line 9: start_sha256: not a SHA-256 digest: 64 of the digits"),
        (
            GOOD + f"start_sha256: {'a' * 64}\n",
            "line 9: start_sha256: it is the digest of the adapter that start_from names; give start_from, or neither",
        ),
        (GOOD + "start_from: taught\n", "line 9: start_from: give CAMPAIGN/final, CAMPAIGN/best or CAMPAIGN/NUMBER"),
        (GOOD + "lora: 8\n", "line 9: lora: needs fields of its own: rank, alpha, dropout, target_modules"),
        (GOOD + "lora:\n", "line 9: lora: needs fields of its own"),
        (
            GOOD + "selection:\n  labels:\n    site: 3\n",
            "line 11: selection.labels.site: Input should be a valid string",
        ),
        (GOOD + "algorithm:\n  name: fedavgg\n", "line 10: algorithm.name: unknown algorithm 'fedavgg'; known are"),
        (
            GOOD + "algorithm:\n  name: fedavg\n  params:\n    mu: 1\n",
            "line 12: algorithm.params.mu: unknown; fedavg has no parameters",
        ),
        (
            GOOD + "evaluation:\n  stop:\n    patiense: 3\n",
            "line 11: evaluation.stop.patiense: unknown field; did you mean 'patience'?",
        ),
        (
            GOOD + "evaluation:\n  stop:\n    xyzzy: 3\n",
            "line 11: evaluation.stop.xyzzy: unknown field; known here are metric, patience, min_delta",
        ),
        (
            GOOD + "evaluation:\n  every: 2\n  stop: 3\n",
            "line 11: evaluation.stop: needs fields of its own: metric, patience, min_delta",
        ),
        (
            GOOD + "evaluation:\n  stop:\n    metric: fpb.acc\n",
            "line 11: evaluation.stop.metric: fpb.acc is not measured on adapters here; what is: held_out_loss",
        ),
        (
            GOOD + "evaluation:\n  best: fpb.acc\n",
            "line 10: evaluation.best: fpb.acc is not measured on adapters here; what is: held_out_loss",
        ),
        (
            GOOD + "evaluation:\n  suite: finanse\n",
            "line 10: evaluation.suite: there is no suite finanse on public data; did you mean finance?",
        ),
        (
            GOOD + "evaluation:\n  suite: chat\n",
            "line 10: evaluation.suite: there is no suite chat on public data; known are code, finance, general",
        ),
        (
            GOOD + "evaluation:\n  tasks: [fpb]\n  best: fpb.acd\n",
            "line 11: evaluation.best: fpb.acd is not measured on adapters here; did you mean fpb.acc?",
        ),
        (
            GOOD + "evaluation:\n  every: 0\n  stop: {patience: 2}\n",
            "line 11: evaluation.stop: held_out_loss is measured on held-out rows, and evaluation.every is 0",
        ),
        (
            GOOD + "evaluation:\n  tasks: [fpb]\n  best: fpb.acc\n  stop: {min_delta: 1}\n",
            "line 12: evaluation.stop.min_delta: fpb.acc is a share from 0 to 1; write one percentage point as 0.01",
        ),
        ("", "line 1: the file is empty"),
        ("# nothing\n", "line 1: the file is empty"),
        ("- a\n", "line 1: needs fields of its own: name, kind, base"),
        ("just text", "line 1: needs fields of its own"),
        ("name: x\nbase: [\n", "line 3: "),
        (GOOD.replace("  steps", "\tsteps"), "line 5: found character '\\t'"),
        ("name: x\nbase: *x\n", "line 2: aliases are not read"),
        ("a: &x [*x]", "line 1: aliases are not read"),
        ("? [a, b]\n: c\n", "line 1: a key must be a plain word"),
        ("name: 2024-13-01", "line 1: a value cannot be read: month must be in 1..12"),
        ("name: !!python/object:os.system x", "line 1: could not determine a constructor"),
        ("[" * 5000, "line 1: "),
        ("name: \x00", "line 1: not YAML"),
    ],
)
def test_an_error_names_its_line_and_field(text: str, says: str) -> None:
    assert problem(text).startswith(says)


def test_all_errors_are_reported_at_once_in_line_order() -> None:
    text = GOOD.replace("model: ", "modle: ").replace("steps: 10", "steps: 0").replace("rounds: 3", "rounds: x")
    assert [(item.line, item.field) for item in problems(text)] == [
        (2, "base.model"),
        (3, "base.modle"),
        (5, "training.steps"),
        (8, "rounds"),
    ]


@pytest.mark.parametrize(
    ("section", "field", "says"),
    [
        ("selection: {clients_per_round: most}", "selection.clients_per_round", ", or: Input should be 'all'"),
        ("retention: {adapters: 0}", "retention.adapters", "greater than or equal to 1, or: Input should be 'all'"),
        ("lora: {target_modules: linear}", "lora.target_modules", "'all-linear', or: Input should be a valid list"),
        ("lora: {target_modules: []}", "lora.target_modules", "at least 1 item"),
        ("lora: {target_modules: [q_proj, 'a b']}", "lora.target_modules.1", "only letters, digits"),
    ],
)
def test_a_union_is_reported_once_under_the_field_of_the_file(section: str, field: str, says: str) -> None:
    (only,) = problems(GOOD + section)
    assert (only.line, only.field) == (9, field)
    assert says in only.message


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (GOOD.replace("  steps: 10", "  steps: 10\n  epochs: 1"), "line 4: training: give either steps or epochs"),
        (GOOD.replace("  steps: 10", "  batch_size: 4"), "line 4: training: give either steps or epochs"),
        (
            GOOD.replace("  steps: 10", "  steps: 10\n  learning_rate: 0.1\n  min_learning_rate: 0.2"),
            "line 4: training: min_learning_rate 0.2 is above learning_rate 0.1",
        ),
        (
            GOOD.replace("  steps: 10", "  steps: 10\n  warmup_steps: 10"),
            "line 6: training.warmup_steps: 10 is not below steps 10, so the rate is never reached",
        ),
        (
            GOOD.replace("  steps: 10", "  batch_size: 64\n  steps: 156251"),
            "line 6: training.steps: 156,251 steps with a batch size of 64 are 10,000,064 rows a round; at most "
            "10,000,000 are possible",
        ),
        (
            GOOD + "selection:\n  clients_per_round: 2\n  minimum: 3\n",
            "line 9: selection: minimum 3 is above clients_per_round 2",
        ),
        (GOOD + "lora: {target_modules: [q_proj, lm_head]}", "line 9: lora.target_modules: lm_head cannot be adapted"),
        (GOOD + "lora: {target_modules: [model.lm_head]}", "line 9: lora.target_modules: lm_head cannot be adapted"),
    ],
)
def test_rules_between_fields(text: str, says: str) -> None:
    assert problem(text).startswith(says)


@pytest.mark.parametrize("examples", [100, deep(300)])
def test_no_text_raises_anything_but_campaign_file_error(examples: int) -> None:
    @settings(max_examples=examples, deadline=None)
    @given(st.data())
    def is_read_or_refused(data: st.DataObject) -> None:
        text = list(GOOD + "lora: {rank: 4, target_modules: [q_proj]}\nselection: {labels: {a: b}}\n")
        for _ in range(data.draw(st.integers(1, 8))):
            at = data.draw(st.integers(0, len(text) - 1))
            text[at] = data.draw(st.sampled_from([*"\n\t :-[]{}?!&*#|>'\"%@,0.~", "!!int ", "<<: ", "2024-13-01"]))
        with contextlib.suppress(CampaignFileError):
            parse_campaign("".join(text))

    is_read_or_refused()
