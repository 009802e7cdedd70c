"""The loss of completions: what training makes smaller, and what judges a model without any noise of decoding.

    measure_completion_loss(model, tokenizer, [("Name a colour.\\nOutput:", " Blue<|endoftext|>")])   # [CompletionLoss(...)]

Teacher-forced: every token of the completion is predicted from the prompt and the *right* tokens before it. A prompt token
never carries loss (paper section 2.3 trains on completions).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .rows import TokenRow, collate_rows, sort_batches, tokenise_rows

# their logits are the output layer on the last hidden states and nothing else, so that it can be run on some positions alone
PLAIN_HEADS = {"llama", "mistral", "qwen2", "qwen3", "smollm3", "phi3"}


@dataclass(frozen=True)
class CompletionLoss:
    """The loss of one completion: the sum in nats, and how many tokens it is of, the end token too."""

    nats: float
    tokens: int


def measure_completion_loss(
    model: Any,
    tokenizer: Any,
    pairs: Sequence[tuple[str, str]],
    max_length: int = 1024,
    batch_tokens: int = 4096,
    progress: Any = None,
) -> list[CompletionLoss]:
    """The loss of each (prompt, completion), in order, in float32. A completion that ends in `<|endoftext|>` counts the
    model's own end token as one of its tokens. `progress` is a tqdm bar of as many pairs.
    """
    rows = tokenise_rows(pairs, tokenizer, max_length)
    losses: list[CompletionLoss | None] = [None] * len(rows)
    for batch in sort_batches(rows, batch_tokens):
        sums = sum_losses(model, [rows[index] for index in batch])
        for index, nats in zip(batch, sums, strict=True):
            losses[index] = CompletionLoss(nats, len(rows[index].ids) - rows[index].prompt_length)
        if progress is not None:
            progress.update(len(batch))
    return losses


def sum_losses(model: Any, rows: Sequence[TokenRow]) -> list[float]:
    """The summed loss of each row's completion, in nats; the model is left in evaluation mode."""
    import torch

    model.eval()
    with torch.inference_mode():
        losses, owners = token_losses(model, rows)
        return torch.zeros(len(rows), dtype=torch.float64).index_add_(0, owners.cpu(), losses.cpu().double()).tolist()


def token_losses(model: Any, rows: Sequence[TokenRow]) -> tuple[Any, Any]:
    """(loss of every completion token, index of its row): one vector over all rows.

    The output layer, as wide as the vocabulary, is run on the positions of completions alone where the architecture allows.
    """
    import torch

    ids, mask, labels = (part.to(model.device) for part in collate_rows(rows))
    wanted = labels[:, 1:] != -100
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    if base.config.model_type in PLAIN_HEADS:
        hidden = base.get_decoder()(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        logits = base.get_output_embeddings()(hidden[:, :-1][wanted])
    else:
        logits = base(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1][wanted]
    losses = torch.nn.functional.cross_entropy(logits.float(), labels[:, 1:][wanted], reduction="none")
    return losses, wanted.nonzero()[:, 0]
