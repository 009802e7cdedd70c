"""Training rows: which rows each column is trained on, and how a row becomes tokens of which some carry loss.

    files = write_training_files(run.path, seed_tasks, rows, random_seed=42)     # column -> RUN/adapters/COLUMN/train.jsonl
    tokenised = tokenise_rows(load_pairs(files["run_data"]), tokenizer)
    plan = plan_batches(tokenised, random_seed=42, epochs=2)                      # batches of row numbers, one a step

The columns, in the order of every table: the model before, asked plainly and with its chat template, and trained on the seed
tasks alone, on the run's generated rows alone, on both as the paper does, and on both with the outputs shuffled, a control:
what it gains over `before_plain` is not learnt from right answers.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..files import InputError, iter_lines, load_records, show_path, write_records
from ..records import FinetuningRow, InstanceRow, SeedTask
from ..steps.export import END_OF_TEXT, build_finetuning_rows, build_seed_rows

TRAINED = ("seeds_only", "generated_only", "run_data", "shuffled_outputs")
COLUMNS = ("before_plain", "before_chat", *TRAINED)
ADAPTERS = "adapters"  # of a run folder: COLUMN/train.jsonl, COLUMN/TRAINING_SEED/adapter.gguf, ...


class TokenRow(NamedTuple):
    """Tokens of a prompt and its completion; those from `prompt_length` on carry loss."""

    ids: list[int]
    prompt_length: int


def write_training_files(
    run_dir: Path, seed_tasks: Sequence[SeedTask], rows: Sequence[FinetuningRow], random_seed: int
) -> dict[str, Path]:
    """The file of every trained column, as `RUN/adapters/COLUMN/train.jsonl`; the same arguments write the same bytes.

    `rows` are those of the run's export, and `run_data` is that very file. Raises InputError where one has no row.
    """
    files = {}
    for column, chosen in split_columns(seed_tasks, rows, random_seed).items():
        files[column] = path = run_dir / ADAPTERS / column / "train.jsonl"
        if not path.is_file() or load_records(path, FinetuningRow) != chosen:
            write_records(path, chosen)
    return files


def split_columns(
    seed_tasks: Sequence[SeedTask], rows: Sequence[FinetuningRow], random_seed: int
) -> dict[str, list[FinetuningRow]]:
    """column -> its rows. Where the export left the seed tasks out, they are laid out here with `random_seed`."""
    rng = random.Random(random_seed)
    is_seed = _seed_finder(seed_tasks)
    seeds = [row for row in rows if is_seed(row)] or build_finetuning_rows([], build_seed_rows(seed_tasks), rng)
    generated = [row for row in rows if not is_seed(row)]
    return dict(zip(TRAINED, (seeds, generated, list(rows), shuffle_outputs(rows, rng)), strict=True))


def _seed_finder(seed_tasks: Sequence[SeedTask]) -> Callable[[FinetuningRow], bool]:
    """True for a row that is an instance of a seed task: its output, under a prompt with its instruction."""
    instructions: dict[str, list[str]] = {}
    for row in build_seed_rows(seed_tasks):
        instructions.setdefault(row.output.strip(), []).append(row.instruction.strip())

    def is_seed(row: FinetuningRow) -> bool:
        return any(one in row.prompt for one in instructions.get(strip_end(row.completion).strip(), ()))

    return is_seed


def strip_end(completion: str) -> str:
    """A completion without the mark of its end."""
    return completion.removesuffix(END_OF_TEXT)


def shuffle_outputs(rows: Sequence[FinetuningRow], rng: random.Random) -> list[FinetuningRow]:
    """Every row with an output of another text: prompts, outputs and their lengths stay, what belongs together does not.
    Where more than half of the rows have one output, `count_unmovable` of them keep it.

    The space before an output belongs to the template of its prompt, and stays there.
    """
    alike = list(_group_outputs(rows).values())
    rng.shuffle(alike)
    order = [place for group in alike for place in rng.sample(group, len(group))]
    # rows of one output stand together, so that a step as long as the longest of them leads out of each
    step = max(map(len, alike), default=0)
    shuffled = list(rows)
    for here, there in zip(order, order[step:] + order[:step], strict=True):
        own, other = rows[here].completion, rows[there].completion.lstrip()
        lead = own[: len(own) - len(own.lstrip())]
        shuffled[here] = FinetuningRow(prompt=rows[here].prompt, completion=lead + other)
    return shuffled


def _group_outputs(rows: Sequence[FinetuningRow]) -> dict[str, list[int]]:
    """output -> the places of the rows that have it."""
    groups: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        groups.setdefault(strip_end(row.completion).strip(), []).append(place)
    return groups


def count_unmovable(rows: Sequence[FinetuningRow]) -> int:
    """How many rows have their own output again however outputs are shuffled: more than half of them have the same one."""
    return max(0, 2 * max(map(len, _group_outputs(rows).values()), default=0) - len(rows))


def lay_out_rows(
    rows: Iterable[Any], seed_tasks: Sequence[SeedTask], random_seed: int
) -> tuple[list[FinetuningRow], int]:
    """(training rows, how many rows had no output) of any data set's rows, with the seed tasks among them as in the paper."""
    kept, without = [], 0
    for row in rows:
        if row.output and row.output.strip():
            kept.append(InstanceRow(instruction=row.instruction, input=row.input or "", output=row.output))
        else:
            without += 1
    return build_finetuning_rows(kept, build_seed_rows(seed_tasks), random.Random(random_seed)), without


def build_prompt(instruction: str, input: str) -> str:
    """The layout in which all published predictions were asked (released human_eval/predictions).

    >>> build_prompt("Name the capital.", "Peru"), build_prompt("Name a river.", "")
    ('Name the capital.\\n\\nInput: Peru\\nOutput:', 'Name a river.\\nOutput:')
    """
    instruction, input = instruction.strip(), input.strip()
    return f"{instruction}\n\nInput: {input}\nOutput:" if input else f"{instruction}\nOutput:"


def load_pairs(path: Path) -> list[tuple[str, str]]:
    """(prompt, completion) of every line; raises InputError with file:line for one with nothing to learn from."""
    pairs = []
    for number, value in iter_lines(path):
        prompt, completion = value.get("prompt"), value.get("completion")
        if not isinstance(prompt, str) or not isinstance(completion, str) or not strip_end(completion).strip():
            where = f"{show_path(path)}:{number}"
            raise InputError(f'{where}: no completion to learn; every line needs "prompt" and "completion", texts both')
        pairs.append((prompt, completion))
    if not pairs:
        raise InputError(f"{show_path(path)}: no rows to train on; 05_filter_and_export writes them")
    return pairs


def tokenise_rows(pairs: Sequence[tuple[str, str]], tokenizer: Any, max_length: int = 512) -> list[TokenRow]:
    """The tokens of each (prompt, completion), at most `max_length`.

    `<|endoftext|>` at a completion's end becomes the model's own end token: taken literally, it taught the embedded model,
    which never says it, *not* to stop (51 % of answers ended before, 11 % after). Of a long row the completion is cut, and
    then teaches no end, and the prompt keeps its last tokens.
    """
    return [_tokenise(prompt, completion, tokenizer, max_length) for prompt, completion in pairs]


def _tokenise(prompt: str, completion: str, tokenizer: Any, max_length: int) -> TokenRow:
    before = tokenizer.encode(prompt)  # with the token that opens a text, where the model has one
    after = tokenizer.encode(strip_end(completion), add_special_tokens=False)
    if completion.endswith(END_OF_TEXT):
        after.append(tokenizer.eos_token_id)
    after = after[: max_length - 8]
    before = before[-(max_length - len(after)) :]
    return TokenRow([*before, *after], len(before))


def plan_batches(
    rows: Sequence[TokenRow],
    random_seed: int,
    epochs: int = 2,
    steps: int = 0,
    batch_tokens: int = 1024,
    batch_rows: int = 16,
) -> list[list[int]]:
    """The row numbers of every update step: whole epochs, or as many steps as `steps` says, begun anew as often as needed.

    A batch has at most `batch_tokens` tokens with their padding and `batch_rows` rows.
    """
    plan: list[list[int]] = []
    epoch = 0
    while epoch < epochs if not steps else len(plan) < steps:
        rng = random.Random(f"{random_seed}/{epoch}")
        batches = sort_batches(rows, batch_tokens, batch_rows, rng)
        rng.shuffle(batches)
        plan += batches
        epoch += 1
    return plan[:steps] if steps else plan


def sort_batches(
    rows: Sequence[TokenRow], batch_tokens: int, batch_rows: int = 64, rng: random.Random | None = None
) -> list[list[int]]:
    """Row numbers in batches of similar length, so that little is padding: sorted within windows of a random order."""
    order = rng.sample(range(len(rows)), len(rows)) if rng else list(range(len(rows)))
    batches: list[list[int]] = []
    for start in range(0, len(order), 32 * batch_rows):
        batch: list[int] = []
        for number in sorted(order[start : start + 32 * batch_rows], key=lambda number: len(rows[number].ids)):
            if batch and (len(batch) >= batch_rows or len(rows[number].ids) * (len(batch) + 1) > batch_tokens):
                batches.append(batch)
                batch = []
            batch.append(number)
        batches += [batch] * bool(batch)
    return batches


def collate_rows(rows: Sequence[TokenRow], ignored: int = -100) -> tuple[Any, Any, Any]:
    """(ids, attention mask, labels) of a batch, each (rows, longest); a label that carries no loss is `ignored`."""
    import torch

    shape = (len(rows), max(len(row.ids) for row in rows))
    ids, mask, labels = (
        torch.zeros(shape, dtype=torch.long),
        torch.zeros(shape, dtype=torch.long),
        torch.full(shape, ignored),
    )
    for number, (tokens, prompt_length) in enumerate(rows):
        ids[number, : len(tokens)] = torch.tensor(tokens)
        mask[number, : len(tokens)] = 1
        labels[number, prompt_length : len(tokens)] = torch.tensor(tokens[prompt_length:])
    return ids, mask, labels


def mark_tokens(row: TokenRow, tokenizer: Any) -> list[tuple[str, bool]]:
    """(text, True if it carries loss) of every token of a row, read off the labels that training uses."""
    labels = collate_rows([row])[2][0].tolist()
    return [(tokenizer.decode([token]), label != -100) for token, label in zip(row.ids, labels, strict=True)]
