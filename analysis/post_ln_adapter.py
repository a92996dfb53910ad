"""What transformer-lens must know to open the post-LN Transformer (needs the extra `lens`)."""

from typing import Any

from jaxtyping import Float
from torch import Tensor
from transformer_lens.config import TransformerBridgeConfig
from transformer_lens.model_bridge import ArchitectureAdapter
from transformer_lens.model_bridge.generalized_components import (
    BlockBridge,
    EmbeddingBridge,
    LinearBridge,
    MLPBridge,
    NormalizationBridge,
    PosEmbedBridge,
    PositionEmbeddingsAttentionBridge,
    UnembeddingBridge,
)


class PostLNAttentionBridge(PositionEmbeddingsAttentionBridge):
    """Attention that transformer-lens computes itself, so that edits of scores and pattern reach the output."""

    def forward(self, hidden: Float[Tensor, "batch length width"], mask: Tensor | None, **kwargs: Any) -> Any:
        """The attention output and its pattern, as `SelfAttention.forward` returns them."""
        return super().forward(hidden, attention_mask=mask, **kwargs)


class PostLNAdapter(ArchitectureAdapter):
    """Where `PostLNForCausalLM` (eqs. 13.3-13.6) keeps its parts.

    Each layer norm stands behind a residual sum. So none can be folded into the weights that follow, and the residual
    stream between the two halves of a block, `hook_resid_mid`, is the output of the first norm.
    """

    supports_fold_ln = False
    supports_center_writing_weights = False
    supports_generation = False

    def __init__(self, cfg: TransformerBridgeConfig) -> None:
        super().__init__(cfg)
        cfg.normalization_type = "LN"
        cfg.positional_embedding_type = "standard"
        cfg.final_rms = False
        cfg.gated_mlp = False
        cfg.attn_only = False
        self.weight_processing_conversions = {**self._qkvo_weight_conversions()}
        self.component_mapping = {
            "embed": EmbeddingBridge(name="embed_tokens"),
            "pos_embed": PosEmbedBridge(name="embed_positions"),
            "blocks": BlockBridge(
                name="layers",
                config=cfg,
                mlp_reads_resid_directly=True,
                hook_alias_overrides={"hook_resid_mid": "ln1.hook_out"},
                submodules={
                    "attn": PostLNAttentionBridge(
                        name="self_attn",
                        config=cfg,
                        submodules={key: LinearBridge(name=f"{key}_proj") for key in "qkvo"},
                    ),
                    "ln1": self._norm("attention_norm"),
                    "mlp": MLPBridge(
                        name="mlp",
                        config=cfg,
                        submodules={"in": LinearBridge(name="up_proj"), "out": LinearBridge(name="down_proj")},
                    ),
                    "ln2": self._norm("mlp_norm"),
                },
            ),
            "unembed": UnembeddingBridge(name="lm_head", config=cfg),
        }

    def _norm(self, name: str) -> NormalizationBridge:
        return NormalizationBridge(name=name, config=self.cfg, use_native_layernorm_autograd=True)

    def prepare_model(self, hf_model: Any) -> None:
        """Put the head width where transformer-lens reads it: on each attention module."""
        super().prepare_model(hf_model)
        for layer in hf_model.layers:
            layer.self_attn.head_dim = hf_model.config.head_dim
