"""Tiny models of the families that transformers knows, each with random weights, and what Fedloom does with it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

from tests.support.tiny import byte_level_bpe

TOKENIZER = byte_level_bpe()
_V, _EOS, _PAD = len(TOKENIZER), TOKENIZER.eos_token_id, TOKENIZER.pad_token_id
_ENDS: dict[str, Any] = {"eos_token_id": _EOS, "bos_token_id": 0, "pad_token_id": _PAD}
_TEXT: dict[str, Any] = {
    "vocab_size": _V,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "initializer_range": 0.1,
    **_ENDS,
}
_GROUPED = {**_TEXT, "num_key_value_heads": 2}
_HEADED = {**_GROUPED, "head_dim": 8}
_GPT: dict[str, Any] = {"vocab_size": _V, "n_embd": 32, "n_layer": 2, "n_head": 4, **_ENDS}
_SEQ2SEQ: dict[str, Any] = {
    "vocab_size": _V,
    "d_model": 32,
    **{
        f"{side}_{name}": value
        for side in ("encoder", "decoder")
        for name, value in (("layers", 1), ("attention_heads", 4), ("ffn_dim", 64))
    },
    "decoder_start_token_id": 0,
    **_ENDS,
}
_LATENT = {"q_lora_rank": 16, "kv_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 8}
_MAMBA = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 4, "mamba_n_groups": 1}
_VISION: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "image_size": 28,
    "patch_size": 14,
}
_QWEN_VISION = {"depth": 1, "hidden_size": 32, "out_hidden_size": 32, "intermediate_size": 64, "num_heads": 4}
_MROPE = {"rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}}
_IMAGE_TOKENS = {f"{name}_token_id": 1 for name in ("image", "video", "vision_start", "vision_end")}

FUSED, OWN_HEAD = "trained", "trained with its own head"
EXPERTS, TOWERS = "trained; its experts stay frozen", "trained; its other towers stay frozen"
EXPERTS_OWN_HEAD = "trained with its own head; its experts stay frozen"
ENCODER_DECODER, ENCODER = "refused: an encoder-decoder model", "refused: an encoder"
SEES_AHEAD, MULTIMODAL = "refused: it attends to later tokens", "refused: a multimodal model"
NOT_ADAPTED = "refused: PEFT cannot adapt this base model"
UNREACHED = "refused: its loss does not depend on the adapters of"


@dataclass(frozen=True)
class Family:
    """One family. result: what happens with lora.target_modules all-linear. targets: others that can be trained."""

    name: str
    model: str
    config: dict[str, Any]
    result: str = FUSED
    targets: tuple[str, ...] = ()

    @property
    def refusal(self) -> str:
        """What the refusal says; empty if the family is trained."""
        return self.result.removeprefix("refused: ") if self.result.startswith("refused: ") else ""

    def build(self) -> Any:
        """Build the model, with random weights, none of which is zero as in a model that has not begun to learn."""
        torch.manual_seed(0)
        model_class: Any = getattr(transformers, self.model)
        model = model_class(model_class.config_class(**self.config))
        with torch.no_grad():
            for parameter in model.parameters():
                if not parameter.any():
                    parameter.normal_(std=0.05)
        return model

    def make(self, folder: Path) -> Path:
        """Write the model, with the tokenizer. Returns *folder*."""
        self.build().save_pretrained(folder)
        TOKENIZER.save_pretrained(folder)
        return folder


def _of(name: str, model: str, config: dict[str, Any], result: str = FUSED, *targets: str, **more: Any) -> Family:
    return Family(name, model, {**config, **more}, result, targets)


def _moe(name: str, model: str, config: dict[str, Any], **more: Any) -> Family:
    return Family(name, model, {**config, "num_experts_per_tok": 2, **more}, EXPERTS)


_DECODERS = [
    _of("Llama", "LlamaForCausalLM", _GROUPED),
    _of("Llama, tied head", "LlamaForCausalLM", _GROUPED, tie_word_embeddings=True),
    _of("Mistral, sliding window", "MistralForCausalLM", _GROUPED, sliding_window=16),
    _of("Qwen2", "Qwen2ForCausalLM", _GROUPED),
    _of("Qwen3", "Qwen3ForCausalLM", _HEADED),
    _of("Gemma", "GemmaForCausalLM", _HEADED),
    _of("Gemma 2, capped logits", "Gemma2ForCausalLM", _HEADED, sliding_window=16, final_logit_softcapping=5.0),
    _of("Gemma 3, text", "Gemma3ForCausalLM", _HEADED, sliding_window=16),
    _of(
        "Gemma 3n, text",
        "Gemma3nForCausalLM",
        _HEADED,
        vocab_size_per_layer_input=_V,
        hidden_size_per_layer_input=8,
        laurel_rank=8,
        num_kv_shared_layers=0,
        altup_num_inputs=2,
    ),
    _of("Phi", "PhiForCausalLM", _TEXT),
    _of("Phi-3, fused projections", "Phi3ForCausalLM", _GROUPED),
    _of("GPT-2, transposed weights", "GPT2LMHeadModel", _GPT),
    _of(
        "GPT-Neo, local attention",
        "GPTNeoForCausalLM",
        {"vocab_size": _V, "hidden_size": 32, "num_layers": 2, "num_heads": 4, "intermediate_size": 64, **_ENDS},
        attention_types=[[["global", "local"], 1]],
    ),
    _of("GPT-NeoX", "GPTNeoXForCausalLM", _TEXT),
    _of("GPT-J", "GPTJForCausalLM", _GPT, rotary_dim=4),
    _of("CodeGen", "CodeGenForCausalLM", _GPT, rotary_dim=4),
    _of("GPT-BigCode", "GPTBigCodeForCausalLM", _GPT),
    _of(
        "OPT, projected embeddings",
        "OPTForCausalLM",
        _TEXT,
        ffn_dim=64,
        word_embed_proj_dim=16,
        do_layer_norm_before=False,
    ),
    _of("BLOOM", "BloomForCausalLM", {"vocab_size": _V, "hidden_size": 32, "n_layer": 2, "n_head": 4, **_ENDS}),
    _of("Falcon", "FalconForCausalLM", _TEXT),
    _of("MPT", "MptForCausalLM", {"vocab_size": _V, "d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 256}),
    _of(
        "XGLM",
        "XGLMForCausalLM",
        {"vocab_size": _V, "d_model": 32, "ffn_dim": 64, "num_layers": 2, "attention_heads": 4},
    ),
    _of("BioGPT", "BioGptForCausalLM", _TEXT),
    _of("StableLM", "StableLmForCausalLM", _GROUPED),
    _of("StarCoder2", "Starcoder2ForCausalLM", _GROUPED),
    _of("Cohere, scaled logits", "CohereForCausalLM", _GROUPED, logit_scale=0.25),
    _of("Cohere 2, scaled logits", "Cohere2ForCausalLM", _GROUPED, logit_scale=0.25),
    _of("Granite, scaled logits", "GraniteForCausalLM", _GROUPED, logits_scaling=4.0, residual_multiplier=0.5),
    _of("HyperCLOVA X, scaled logits", "HyperCLOVAXForCausalLM", _GROUPED),
    _of("GLM-4", "Glm4ForCausalLM", _HEADED),
    _of("OLMo 2", "Olmo2ForCausalLM", _GROUPED),
    _of("OLMo 3", "Olmo3ForCausalLM", _GROUPED, sliding_window=16),
    _of("Nemotron", "NemotronForCausalLM", _HEADED),
    _of("SmolLM3", "SmolLM3ForCausalLM", _GROUPED),
    _of("EXAONE 4", "Exaone4ForCausalLM", _GROUPED),
    _of("ERNIE 4.5", "Ernie4_5ForCausalLM", _HEADED),
    _of("MiniCPM3, latent attention", "MiniCPM3ForCausalLM", _TEXT, **_LATENT),
    _of("Apertus", "ApertusForCausalLM", _GROUPED),
    _of("Persimmon", "PersimmonForCausalLM", _TEXT),
    _of(
        "ModernBERT decoder, transformed head",
        "ModernBertDecoderForCausalLM",
        _TEXT,
        OWN_HEAD,
        cls_token_id=0,
        sep_token_id=0,
    ),
    _of("BERT decoder, transformed head", "BertLMHeadModel", _TEXT, OWN_HEAD, is_decoder=True),
    _of(
        "BART decoder alone",
        "BartForCausalLM",
        _SEQ2SEQ,
        UNREACHED,
        *("self_attn.q_proj", "self_attn.v_proj", "fc1", "fc2"),
        is_decoder=True,
        is_encoder_decoder=False,
    ),
]
_EXPERT = {"moe_intermediate_size": 32, "num_experts": 4}
_MIXTURES = [
    _moe("Mixtral", "MixtralForCausalLM", _GROUPED, num_local_experts=4),
    _moe("Qwen2-MoE, shared expert", "Qwen2MoeForCausalLM", _GROUPED, **_EXPERT, shared_expert_intermediate_size=32),
    _moe("Qwen3-MoE", "Qwen3MoeForCausalLM", _HEADED, **_EXPERT, decoder_sparse_step=1, mlp_only_layers=[]),
    _moe("OLMoE", "OlmoeForCausalLM", _GROUPED, num_experts=4),
    _moe(
        "DeepSeek-V3, dense first layer",
        "DeepseekV3ForCausalLM",
        {**_TEXT, "num_key_value_heads": 4, **_LATENT},
        n_routed_experts=4,
        n_group=2,
        topk_group=1,
        moe_intermediate_size=32,
        first_k_dense_replace=1,
    ),
    _moe("gpt-oss", "GptOssForCausalLM", _HEADED, num_local_experts=4, sliding_window=16),
    _moe("Granite MoE", "GraniteMoeForCausalLM", _GROUPED, num_local_experts=4),
    _of("Llama 4, text", "Llama4ForCausalLM", _HEADED, EXPERTS_OWN_HEAD, num_local_experts=4, intermediate_size_mlp=64),
]
_RECURRENT = [
    _of(
        "RWKV", "RwkvForCausalLM", {"vocab_size": _V, "hidden_size": 32, "num_hidden_layers": 2, "context_length": 128}
    ),
    _of(
        "RecurrentGemma",
        "RecurrentGemmaForCausalLM",
        {**_TEXT, "num_hidden_layers": 3},
        lru_width=32,
        attention_window_size=16,
    ),
    _of("Bamba, hybrid", "BambaForCausalLM", _GROUPED, attn_layer_indices=[1], **_MAMBA),
    _of("LFM2, convolutions", "Lfm2ForCausalLM", _GROUPED, layer_types=["conv", "full_attention"]),
    _of("xLSTM", "xLSTMForCausalLM", {"vocab_size": _V, "hidden_size": 32, "num_hidden_layers": 2, "num_heads": 4}),
    _of(
        "Qwen3-Next, hybrid with experts",
        "Qwen3NextForCausalLM",
        _HEADED,
        EXPERTS,
        **_EXPERT,
        num_experts_per_tok=2,
        shared_expert_intermediate_size=32,
        layer_types=["linear_attention", "full_attention"],
        linear_num_value_heads=4,
        linear_num_key_heads=2,
        linear_key_head_dim=8,
        linear_value_head_dim=8,
    ),
    _of(
        "Mamba",
        "MambaForCausalLM",
        {"vocab_size": _V, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 4, **_ENDS},
        NOT_ADAPTED,
        *("in_proj", "x_proj"),
    ),
    _of(
        "Mamba 2",
        "Mamba2ForCausalLM",
        {"vocab_size": _V, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 4, "num_heads": 8, **_ENDS},
        NOT_ADAPTED,
        "in_proj",
        head_dim=8,
        n_groups=2,
    ),
    _of(
        "Falcon-H1, hybrid",
        "FalconH1ForCausalLM",
        _GROUPED,
        NOT_ADAPTED,
        "q_proj",
        "v_proj",
        mamba_d_ssm=64,
        lm_head_multiplier=0.5,
        **_MAMBA,
    ),
    _of(
        "Jamba, hybrid with experts",
        "JambaForCausalLM",
        _GROUPED,
        UNREACHED,
        *("q_proj", "v_proj", "in_proj"),
        num_experts=4,
        num_experts_per_tok=2,
        attn_layer_period=2,
        attn_layer_offset=1,
        expert_layer_period=2,
        expert_layer_offset=1,
        mamba_d_state=4,
        mamba_dt_rank=4,
        use_mamba_kernels=False,
    ),
]
_MULTIMODAL = [
    _of(
        "Gemma 3, with images",
        "Gemma3ForConditionalGeneration",
        {"text_config": {**_HEADED, "sliding_window": 16, "model_type": "gemma3_text"}, "vision_config": _VISION},
        TOWERS,
        mm_tokens_per_image=4,
        image_token_index=0,
        boi_token_index=0,
        eoi_token_index=0,
    ),
    _of(
        "LLaVA",
        "LlavaForConditionalGeneration",
        {
            "text_config": {**_GROUPED, "model_type": "llama"},
            "vision_config": {**_VISION, "model_type": "clip_vision_model"},
        },
        MULTIMODAL,
        image_token_index=1,
    ),
    _of(
        "Qwen2.5-VL",
        "Qwen2_5_VLForConditionalGeneration",
        {
            "text_config": {**_GROUPED, **_MROPE, "model_type": "qwen2_5_vl_text"},
            "vision_config": {**_QWEN_VISION, "patch_size": 14},
            **_IMAGE_TOKENS,
        },
        MULTIMODAL,
    ),
]
_OTHERS = [
    _of("BERT", "BertForMaskedLM", _TEXT, SEES_AHEAD),
    _of("RoBERTa", "RobertaForMaskedLM", _TEXT, SEES_AHEAD, type_vocab_size=1),
    _of("ELECTRA", "ElectraForMaskedLM", _TEXT, SEES_AHEAD, embedding_size=32),
    _of(
        "XLNet",
        "XLNetLMHeadModel",
        {"vocab_size": _V, "d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 64},
        SEES_AHEAD,
    ),
    _of("ModernBERT", "ModernBertForMaskedLM", _TEXT, ENCODER, cls_token_id=0, sep_token_id=0),
    _of(
        "DistilBERT",
        "DistilBertForMaskedLM",
        {"vocab_size": _V, "dim": 32, "hidden_dim": 64, "n_layers": 2, "n_heads": 4},
        ENCODER,
    ),
    _of(
        "T5",
        "T5ForConditionalGeneration",
        {"vocab_size": _V, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 1, "num_heads": 4},
        ENCODER_DECODER,
    ),
    _of("BART", "BartForConditionalGeneration", _SEQ2SEQ, ENCODER_DECODER),
    _of("Marian", "MarianMTModel", _SEQ2SEQ, ENCODER_DECODER),
    _of("Whisper", "WhisperForConditionalGeneration", _SEQ2SEQ, ENCODER_DECODER),
]
FAMILIES = [*_DECODERS, *_MIXTURES, *_RECURRENT, *_MULTIMODAL, *_OTHERS]
BY_NAME = {family.name: family for family in FAMILIES}
