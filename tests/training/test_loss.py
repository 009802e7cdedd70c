"""The loss of completions equals the plain one, row by row, and no prompt token is part of it."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from selfinstruct.training.loss import measure_completion_loss, token_losses  # noqa: E402
from selfinstruct.training.rows import TokenRow, tokenise_rows  # noqa: E402

PAIRS = [
    ("Say one.\nOutput:", " one<|endoftext|>"),
    ("In:", " a much longer thing in the end"),
    ("Thé:", " été<|endoftext|>"),
]


def plain_loss(model, row):
    """One row alone, with nothing skipped: the reference."""
    with torch.no_grad():
        logits = model(torch.tensor([row.ids])).logits[0].log_softmax(-1)
    return -sum(float(logits[place - 1, row.ids[place]]) for place in range(row.prompt_length, len(row.ids)))


def test_each_pair_has_its_own_loss_in_order(loaded):
    model, tokenizer = loaded
    losses = measure_completion_loss(model, tokenizer, PAIRS)
    for one, row in zip(losses, tokenise_rows(PAIRS, tokenizer), strict=True):
        assert one.nats == pytest.approx(plain_loss(model, row), rel=1e-5)
        assert one.tokens == len(row.ids) - row.prompt_length


def test_batching_does_not_change_a_loss(loaded):
    model, tokenizer = loaded
    together = measure_completion_loss(model, tokenizer, PAIRS)
    alone = [measure_completion_loss(model, tokenizer, [pair])[0] for pair in PAIRS]
    assert [one.nats for one in together] == pytest.approx([one.nats for one in alone], rel=1e-5)


def test_the_short_way_over_the_output_layer_equals_the_long_one(loaded, monkeypatch):
    model, tokenizer = loaded
    rows = tokenise_rows(PAIRS, tokenizer)
    short = token_losses(model, rows)[0]
    monkeypatch.setattr("selfinstruct.training.loss.PLAIN_HEADS", set())
    assert torch.allclose(short, token_losses(model, rows)[0], rtol=1e-5)


def test_other_words_in_the_prompt_have_no_loss_of_their_own(loaded):
    model, _ = loaded
    losses, owners = token_losses(model, [TokenRow([5, 6, 7, 8, 9], 3), TokenRow([5, 6], 1)])
    assert owners.tolist() == [0, 0, 1] and len(losses) == 3
