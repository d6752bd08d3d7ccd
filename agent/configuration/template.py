"""The settings file that an agent starts from: every setting, with its default."""

TEMPLATE = """\
# Settings of this Fedloom agent. They stay on this machine. Settings behind a # show the defaults, or an example.

# The data that campaigns may name. Check it with: fedloom agent check-data finance
# [data.finance]
# path = "finance.jsonl"     # relative to this file: .jsonl, .json, .csv, .tsv, .parquet, text, a folder
# preset = "alpaca"          # a well-known data set: sets the columns and, without path, the hub id
# prompt = "prompt"          # column names
# completion = "completion"
# columns = ["label", "text"] # or: all columns, from left to right, of a table without a header
# messages = "messages"      # or: a column of whole conversations
# system = "system"          # a column of system prompts
# history = "history"        # a column of earlier turns
# chosen = "chosen"          # or, for preferences: two completions
# rejected = "rejected"
# template = "own.jinja"     # your own chat template, instead of the campaign's
# held_out = 0.1             # fraction of rows for evaluation, never trained on
# campaigns = ["4e93…"]      # only these campaigns: whole digests of 64 characters, or ids
# kinds = ["sft"]            # only these kinds of training
# algorithms = ["fedavg"]    # only these algorithms

[compute]
# device = "auto"            # cpu, cuda, cuda:1, mps
# dtype = "auto"             # of the base on a GPU: float32, bfloat16, float16; auto: bfloat16 if the GPU supports it
# processes = 1              # that train together, one a GPU; each holds the whole base model
# threads = 4                # CPU threads; default: all cores
# micro_batch = 16           # the most rows at once; fewer where memory is short
# checkpoint_every = 50      # optimizer steps, the most that a crash in training can cost; 0: no checkpoints
# idle_s = 600               # seconds without a task until the base model's memory is given back
# max_lora_rank = 8          # the largest rank to train; default: no limit
# trainer = "trl"            # what trains: Fedloom's own, or an installed plug-in that you trust
# hub_kernels = false        # whether libraries may fetch compiled code from the hub and run it

[cache]
# max_bytes = 4294967296

# Seconds to wait for the coordinator. A request that takes longer is tried again.
[network]
# connect_timeout_s = 10
# timeout_s = 30             # without a byte, of any request
# chunk_timeout_s = 60       # for the reply to a chunk of an upload
# result_timeout_s = 600     # for the reply to a result, which is checked first
# wait_s = 50                # that a request for work waits; a proxy on the way may allow less

# Folders of base models on this machine. Others are fetched from the hub, with your HF_TOKEN if they need one.
[models]
# "HuggingFaceTB/SmolLM2-135M-Instruct" = "/models/smollm2-135m-instruct"

# What you accept, whatever a campaign asks for. In words: fedloom agent policy
[policy]
# accept = "ask"             # you, each campaign once; matching: data bound by `campaigns`; any: without asking you
# base_models = []           # patterns of hub names, such as "HuggingFaceTB/*"; those of [models] are accepted already
# kinds = ["sft", "dpo"]     # training on completions, on preferences
# algorithms = ["*"]         # patterns
# min_rows = 40              # fewest distinct rows behind an update
# min_held_out = 20          # fewest rows behind a held-out metric
# batch_size = [8, 512]      # least and most rows of an optimizer step
# max_length = [64, 8192]    # least and most tokens of a row after cutting
# rank = [1, 64]             # least and most rank of an adapter
# max_rows_per_task = 10000  # rows of one round; default: no limit
# max_epochs = 10.0          # passes over the data in one campaign
# max_steps = 100            # optimizer steps a round; default: no limit
# max_rounds = 1000          # rounds of a campaign, and trainings for it
# max_rollbacks = 3          # rollbacks, and restores of the coordinator, that are followed
# min_participants = 3       # fewest clients of a campaign, by the coordinator's word
# min_in_round = 2           # fewest updates that are averaged
# max_campaigns = 3          # in 30 days on the same rows
# report = "round"           # what leaves of losses: "none", rounded means of a round, or "live" in full
# report_gain = false        # true: `fedloom agent report` tells the operator three rounded losses of each adapter
# hold_updates = false       # true: a finished update stays here until you let it go: fedloom agent release CAMPAIGN
# hold_updates_s = 86400     # seconds after which a held update goes by itself; default: no limit
# retention_updates = 0      # rounds for which the coordinator may keep your updates
# max_download_bytes = 4294967296 # of adapters and other tensors, for one task
# remote_code = false        # code that comes with a base model
# suites = []                # public benchmarks that campaigns may run here: ["finance", "gsm8k"], or ["*"] for all

# Public benchmarks, for the suites above
[evaluation]
# data = "evaluation-data"   # folder of their data, relative to this file: fedloom evaluate --list
"""
