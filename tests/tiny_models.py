"""Architectures of transformers at tiny sizes, with random weights."""

SIZES = {
    "vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 40,
    "head_dim": 8, "pad_token_id": 0,
}  # fmt: skip
GPT = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 40}
EXPERTS = {
    "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "num_experts_per_tok": 2,
    "moe_intermediate_size": 24, "n_shared_experts": 1, "first_k_dense_replace": 0,
    "shared_expert_intermediate_size": 40, "n_group": 1, "topk_group": 1, "q_lora_rank": 16,
    "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8,
}  # fmt: skip
SEQ2SEQ = {
    "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48,
}  # fmt: skip
T5 = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}
IMAGE = {"image_size": 16, "patch_size": 8}
TOWERS = {"text_config": SIZES, "vision_config": SIZES | IMAGE}
CAUSAL, BASE, PAIRED = "AutoModelForCausalLM", "AutoModel", "AutoModelForSeq2SeqLM"
MULTIMODAL = "AutoModelForImageTextToText"
# By model type: the class, what differs from SIZES, and which of these it does not have.
MODELS = {
    # dense, with grouped queries or without
    "llama": (CAUSAL, {}, ()),
    "qwen2": (CAUSAL, {"tie_word_embeddings": True}, ()),
    "gemma2": (CAUSAL, {}, ()),
    "phi": (CAUSAL, {}, ()),
    "olmo2": (CAUSAL, {}, ()),
    "cohere": (CAUSAL, {}, ()),
    "opt": (CAUSAL, {"ffn_dim": 48, "word_embed_proj_dim": 32}, ()),
    "gptj": (CAUSAL, GPT | {"rotary_dim": 4}, ()),
    # fused, or with layers that keep [in, out]
    "gpt2": (CAUSAL, GPT, ()),
    "openai-gpt": (CAUSAL, GPT, ()),
    "gpt_bigcode": (CAUSAL, GPT | {"multi_query": False}, ()),
    "codegen": (CAUSAL, GPT | {"rotary_dim": 4, "n_ctx": 40}, ()),
    "bloom": (CAUSAL, {"n_layer": 2, "n_head": 4}, ()),
    "falcon": (
        CAUSAL, {"new_decoder_architecture": True, "num_kv_heads": 2},
        ("head_dim", "num_key_value_heads"),
    ),
    "gpt_neox": (CAUSAL, {}, ()),
    "persimmon": (CAUSAL, {}, ()),
    "mpt": (CAUSAL, {"d_model": 32, "n_heads": 4, "n_layers": 2}, ()),
    "phi3": (CAUSAL, {}, ()),
    "glm4": (CAUSAL, {}, ()),
    # mixtures: stacked in memory, listed or stacked in files
    "mixtral": (CAUSAL, EXPERTS, ()),
    "qwen2_moe": (CAUSAL, EXPERTS, ()),
    "qwen3_next": (
        CAUSAL,
        EXPERTS | {"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8,
                   "linear_value_head_dim": 8,
                   "layer_types": ["linear_attention", "full_attention"]},
        (),
    ),
    "deepseek_v3": (CAUSAL, EXPERTS, ()),
    "gpt_oss": (CAUSAL, EXPERTS, ()),
    "granitemoe": (CAUSAL, EXPERTS, ()),
    "llama4_text": (CAUSAL, EXPERTS | {"intermediate_size_mlp": 40}, ()),
    "jetmoe": (CAUSAL, {"kv_channels": 8, "num_local_experts": 4}, ()),
    # state spaces
    "mamba": (CAUSAL, {"state_size": 8}, ()),
    "mamba2": (CAUSAL, {"num_heads": 8, "head_dim": 8, "n_groups": 2, "state_size": 8}, ()),
    "rwkv": (CAUSAL, {"attention_hidden_size": 32}, ()),
    "jamba": (
        CAUSAL,
        EXPERTS | {"mamba_d_state": 8, "attn_layer_period": 2, "attn_layer_offset": 1,
                   "expert_layer_period": 2, "expert_layer_offset": 1},
        (),
    ),
    # encoders, and encoders with decoders
    "bert": (BASE, {}, ()),
    "electra": (BASE, {"embedding_size": 16}, ()),
    "deberta-v2": (BASE, {}, ()),
    "modernbert": (BASE, {}, ()),
    "xlnet": (
        BASE, {"d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 48},
        ("max_position_embeddings",),
    ),
    "t5": (PAIRED, T5, ()),
    "bart": (PAIRED, SEQ2SEQ, ()),
    # images, sound, and several at once
    "vit": (BASE, IMAGE, ()),
    "dinov2": (BASE, IMAGE, ()),
    "convnext": (BASE, {"hidden_sizes": [16, 32], "depths": [1, 1], "num_stages": 2}, ()),
    "clip": (BASE, TOWERS | {"projection_dim": 16}, (*SIZES,)),
    "whisper": (BASE, SEQ2SEQ | {"num_mel_bins": 16}, ()),
    "wav2vec2": (
        BASE,
        {"conv_dim": [16] * 3, "conv_kernel": [10, 3, 2], "conv_stride": [5, 2, 2],
         "num_feat_extract_layers": 3, "num_conv_pos_embeddings": 16,
         "num_conv_pos_embedding_groups": 4},
        (),
    ),
    "llava": (
        MULTIMODAL,
        {"text_config": SIZES | {"model_type": "llama"},
         "vision_config": SIZES | IMAGE | {"model_type": "clip_vision_model"}},
        (*SIZES,),
    ),
    "qwen2_vl": (
        MULTIMODAL,
        {"text_config": SIZES | {"model_type": "qwen2_vl_text"},
         "vision_config": {"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 4}},
        (*SIZES,),
    ),
}  # fmt: skip


def tiny_model(model_type):
    """A live model in evaluation mode."""
    import torch
    import transformers

    auto, fields, absent = MODELS[model_type]
    settings = {name: value for name, value in SIZES.items() if name not in absent} | fields
    config = transformers.AutoConfig.for_model(model_type, **settings)
    torch.manual_seed(0)
    return getattr(transformers, auto).from_config(config).eval()
