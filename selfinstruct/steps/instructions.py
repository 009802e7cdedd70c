"""Step 1, bootstrapping instructions from the seed tasks, one round at a time (paper section 2.2; bootstrap_instructions.py).

The only source of chance is `random_seed`: the same seed and responses give the same records. The released code draws the
same prompts again after a restart (Q9); here a restart replays the stored responses, to the bytes of an unbroken run.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..files import ParameterError, SelfInstructError
from ..filters import instruction_rejection
from ..parsing import check_quirks, split_instructions
from ..prompts import build_instruction_prompt
from ..records import Client, Completion, MachineInstruction, Rejection, Request, SeedTask
from ..similarity.pool import InstructionPool

MACHINE_INSTRUCTIONS_IN_PROMPT = 2
ROUNDS_WITHOUT_GAIN = 20


@dataclass
class Round:
    """One round of step 1: what was asked, what came back, and what became of every candidate."""

    request_idx: int
    requests: list[Request]
    completions: list[Completion]
    admitted: list[MachineInstruction] = field(default_factory=list)
    rejected: list[Rejection] = field(default_factory=list)

    def reject(
        self, text: str, reason: str, nearest: str | None = None, score: float | None = None, **more: int
    ) -> None:
        """Write down a candidate that is dropped, and the rule that drops it."""
        facts = {"reason": reason, "candidate": text, "nearest": nearest, "score": score, **more}
        self.rejected.append(Rejection(step="1_instructions", request_idx=self.request_idx, **facts))

    @property
    def failed(self) -> int:
        """Requests of this round that brought no completion."""
        return sum(completion.error is not None for completion in self.completions)


def choose_seed_instructions(seed_tasks: Sequence[SeedTask], use_clf_seed_tasks_only: bool = False) -> list[str]:
    """The instructions of the seed tasks, all of them or those of classification tasks only.

    Raises ParameterError where none is left.
    """
    chosen = [task.instruction for task in seed_tasks if task.is_classification or not use_clf_seed_tasks_only]
    if not chosen:
        raise ParameterError("use_clf_seed_tasks_only: none of the seed tasks is a classification task")
    return chosen


def sample_in_context(
    rng: random.Random, human: Sequence[str], machine: Sequence[str], num_prompt_instructions: int = 8
) -> list[str]:
    """In-context instructions of one prompt: up to 2 machine-written, the rest human-written, shuffled.

    An empty pool gives 8 human ones, a pool of one 7 + 1 (released `sample_machine_instructions` and its caller).
    Raises ParameterError where there are fewer seed tasks than the prompt needs.
    """
    from_machine = rng.sample(list(machine), min(MACHINE_INSTRUCTIONS_IN_PROMPT, len(machine)))
    wanted = num_prompt_instructions - len(from_machine)
    if wanted > len(human):
        have = f"only {len(human)} seed tasks to draw from"
        raise ParameterError(f"num_prompt_instructions={num_prompt_instructions}: {have}")
    chosen = from_machine + rng.sample(list(human), wanted)
    rng.shuffle(chosen)
    return chosen


def build_round(
    rng: random.Random,
    human: Sequence[str],
    machine: Sequence[str],
    settings: dict[str, Any],
    *,
    requests_per_round: int = 5,
    num_prompt_instructions: int = 8,
    use_clf_seed_tasks_only: bool = False,
    asked: Counter[str] | None = None,
) -> list[Request]:
    """The requests of one round of step 1, each with its own draw of in-context instructions.

    `asked` counts prompts already asked in the run: a repeated prompt is a new sample, not a cached answer.
    """
    asked = Counter() if asked is None else asked
    requests = []
    for _ in range(requests_per_round):
        in_context = sample_in_context(rng, human, machine, num_prompt_instructions)
        prompt = build_instruction_prompt(in_context, use_clf_seed_tasks_only)
        requests.append(Request(prompt=prompt, sample_index=asked[prompt], **settings))
        asked[prompt] += 1
    return requests


def generate_instructions(
    client: Client,
    seed_tasks: Sequence[SeedTask],
    settings: dict[str, Any],
    *,
    num_instructions_to_generate: int = 100,
    random_seed: int = 42,
    requests_per_round: int = 5,
    num_prompt_instructions: int = 8,
    use_clf_seed_tasks_only: bool = False,
    rouge_threshold: float = 0.7,
    quirks: str = "published",
    max_rounds: int = 0,
) -> Iterator[Round]:
    """Step 1: yield rounds until the pool holds `num_instructions_to_generate` machine-written instructions.

    The count is checked between rounds, so the last round may overshoot (Q9); `quirks="fixed"` stops at the number. Raises
    SelfInstructError after 20 rounds in a row that admit nothing: the released loop would never end (Q8).
    """
    fixed = check_quirks(quirks)
    human = choose_seed_instructions(seed_tasks, use_clf_seed_tasks_only)
    pool, machine, asked = build_pool(human, quirks), [], Counter()
    rng, gainless, request_idx = random.Random(random_seed), 0, 0
    while len(machine) < num_instructions_to_generate and not (max_rounds and request_idx >= max_rounds):
        requests = build_round(
            rng, human, machine, settings, requests_per_round=requests_per_round, asked=asked,
            num_prompt_instructions=num_prompt_instructions, use_clf_seed_tasks_only=use_clf_seed_tasks_only,
        )  # fmt: skip
        round_ = Round(request_idx, requests, client.complete(requests))
        room = num_instructions_to_generate - len(machine) if fixed else None
        judge_round(round_, pool, rouge_threshold, quirks, room)
        machine += [record.instruction for record in round_.admitted]
        gainless = 0 if round_.admitted else gainless + 1
        request_idx += 1
        yield round_
        if gainless >= ROUNDS_WITHOUT_GAIN:
            have = f"{len(machine)} of {num_instructions_to_generate} so far"
            raise SelfInstructError(
                f"step 1 stopped: {gainless} rounds in a row admitted no new instruction ({have}); "
                "rejections.jsonl says why. Try other seed tasks, a higher temperature, or another model"
            )


def build_pool(texts: Sequence[str], quirks: str = "published") -> InstructionPool:
    """A task pool. Q6: released, only a-z and 0-9 count, so Chinese is never a repetition; fixed counts the words of every script."""
    return InstructionPool(texts, quirks=quirks, tokenizer="unicode" if check_quirks(quirks) else "rouge_score")


def judge_round(
    round_: Round, pool: InstructionPool, rouge_threshold: float = 0.7, quirks: str = "published", room: int | None = None
) -> None:  # fmt: skip
    """Parse, filter and admit the completions of `round_` in order, filling its `admitted` and `rejected`.

    Every parsed candidate ends in one of the two lists; an admitted one joins `pool` at once. At most `room` are admitted.
    """
    passed: list[tuple[int, str]] = []
    for index, completion in enumerate(round_.completions):
        for text, reason in judge_completion(completion, quirks):
            if reason is None:
                passed.append((index, text))
            else:
                # of a completion that was cut all items fall: which of the round's it was says what belongs together
                round_.reject(text, reason, **({"completion_idx": index} if reason == "cut_by_length" else {}))
    if room is None:
        _admit(round_, pool, passed, rouge_threshold, quirks)
        return
    for one in passed:
        if len(round_.admitted) < room:
            _admit(round_, pool, [one], rouge_threshold, quirks)
        else:
            round_.reject(one[1], "target_reached")


def judge_completion(completion: Completion, quirks: str = "published") -> list[tuple[str, str | None]]:
    """Each candidate of one completion with the rule that drops it before the similarity filter, or None.

    A completion cut by length loses all its candidates (Q3; fixed: the last one), an empty one counts as one candidate.
    A request that failed has none: it is counted as failed and asked again by the next run.
    """
    if completion.error is not None:
        return []
    items = split_instructions(completion.text, quirks)
    if not items:
        return [("", "empty")]
    judged = [(item, instruction_rejection(item, quirks)) for item in items]
    if completion.finish_reason == "length":
        whole = judged[:-1] if quirks == "fixed" else []
        judged = whole + [(item, "cut_by_length") for item in items[len(whole) :]]
    return judged


def _admit(round_: Round, pool: InstructionPool, passed: list[tuple[int, str]], threshold: float, quirks: str) -> None:
    size = len(pool)
    admissions = pool.admit([text for _, text in passed], threshold=threshold)
    for (index, text), admission in zip(passed, admissions, strict=True):
        if admission is None:
            scores = pool.scores(text)[:size]  # against those that were in the pool then
            best = int(scores.argmax())
            round_.reject(text, "too_similar", pool.texts[best], float(scores[best]))
            continue
        size += 1
        round_.admitted.append(
            MachineInstruction(
                instruction=text,
                most_similar=dict(admission.most_similar),
                avg_similarity_score=admission.avg_similarity_score,
                metadata=_build_metadata(round_, index, quirks),
                request_idx=round_.request_idx,
            )
        )


def _build_metadata(round_: Round, index: int, quirks: str) -> dict[str, Any]:
    """Released: prompt and response in full with every instruction (Q10); fixed: just when and how it ended, the store has the rest."""
    completion = round_.completions[index]
    if quirks == "fixed":
        return {"created_at": completion.created_at, "finish_reason": completion.finish_reason}
    return completion.metadata(round_.requests[index].prompt)
