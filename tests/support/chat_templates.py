"""Chat templates in the manner of well-known models, with the tiny tokenizer's special tokens."""

_TURN = "<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
_PROMPT = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"

THOUGHT_WRAPPED_AGAIN = (
    "{%- set ns = namespace(last=-1) %}"
    "{%- for m in messages %}{% if m['role'] == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
    "{%- for m in messages %}"
    "{%- if m['role'] == 'assistant' %}"
    "{%- set content = m['content'] %}{%- set thought = '' %}"
    "{%- if '</think>' in content %}"
    "{%- set thought = content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}"
    "{%- set content = content.split('</think>')[-1].lstrip('\n') %}"
    "{%- endif %}"
    "{%- if loop.index0 > ns.last and (loop.last or thought) %}"
    "{{- '<|im_start|>assistant\n<think>\n' + thought.strip('\n') + '\n</think>\n\n' + content.lstrip('\n') }}"
    "{%- else %}{{- '<|im_start|>assistant\n' + content }}{% endif %}"
    "{{- '<|im_end|>\n' }}"
    "{%- else %}{{- '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endif %}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{% endif %}"
)
"""Like Qwen3: a thought is wrapped again in the last reply, and left out of earlier ones."""

THOUGHT_CUT_OFF = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}<|im_start|>{{ m['content'].split('</think>')[-1] }}"
    "<|im_end|>{% else %}{{ m['content'] }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|><think>\n{% endif %}"
)
"""Like DeepSeek R1: the text up to ``</think>`` is cut off every reply."""

THOUGHT_IN_THE_PROMPT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)
"""The generation prompt opens the thought; the reply holds it whole."""

WITH_DATE = (
    "{%- if not date_string is defined %}{%- if strftime_now is defined %}"
    "{%- set date_string = strftime_now('%d %b %Y') %}{%- else %}{%- set date_string = '26 Jul 2024' %}{%- endif %}"
    "{%- endif %}"
    "{{- '<|im_start|>system\nToday Date: ' + date_string + '<|im_end|>\n' }}"
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] | trim }}<|im_end|>\n{% endfor %}" + _PROMPT
)
"""Like Llama 3.2: the date is in the prompt."""

SYSTEM_IN_THE_LAST_PROMPT = (
    "{%- if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}"
    "{% set loop_messages = messages[1:] %}"
    "{%- else %}{% set system = '' %}{% set loop_messages = messages %}{% endif %}"
    "{%- for m in loop_messages %}{% if m['role'] == 'user' %}[INST] "
    "{%- if loop.last and system %}{{ system + '\n\n' }}{% endif %}{{ m['content'] }}[/INST]"
    "{%- else %}{{ ' ' + m['content'] + eos_token }}{% endif %}{% endfor %}"
)
"""Like Mistral: the system text goes into the last turn if that is the prompt, and is left out once it is answered."""

WITHOUT_SYSTEM = "{% for m in messages %}{% if m['role'] != 'system' %}" + _TURN + "{% endif %}{% endfor %}" + _PROMPT
"""Leaves out system turns without a word."""

FURTHER_MARKER_AT_THE_END = (
    "{% for m in messages %}" + _TURN + "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% else %}<|endoftext|>{% endif %}"
)
"""Ends a finished conversation with a further marker."""

GENERATION_TAGS = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}<|im_start|>assistant\n"
    "{% generation %}{{ m['content'] }}<|im_end|>{% endgeneration %}{{ '\n' }}"
    "{% else %}" + _TURN + "{% endif %}{% endfor %}" + _PROMPT
)
"""Marks replies for TRL."""


def changing(content: str) -> str:
    """A template whose replies are a Jinja expression of ``m['content']``."""
    return (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
        "{% if m['role'] == 'assistant' %}{{ " + content + " }}{% else %}{{ m['content'] }}{% endif %}<|im_end|>\n"
        "{% endfor %}" + _PROMPT
    )
