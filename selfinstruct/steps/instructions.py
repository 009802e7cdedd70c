"""Step 1, bootstrapping instructions from the seed tasks, one round at a time (paper section 2.2; bootstrap_instructions.py).

The only source of chance is `random_seed`: the same seed and responses give the same records. The released code draws the
same prompts again after a restart (Q9); here a restart replays the stored responses, to the bytes of an unbroken run.
"""

from __future__ import annotations

import random
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..files import ParameterError, SelfInstructError
from ..filters import instruction_rejection
from ..parsing import CUT_OFF, check_quirks, split_instructions
from ..prompts import PromptSet, load_shared_prompts
from ..records import Client, Completion, MachineInstruction, Rejection, Request, SeedTask
from ..similarity.pool import InstructionPool

# The requests of a round, those of them that ask for classification tasks, and the first words that are dropped: released, and for
# the embedded model, which asks for deeds that no text can do (measured in seeds/README.md). The released code drops "Write a
# program ..." by its first words in the same way.
PAPER_ROUNDS: dict[str, Any] = {"requests_per_round": 5, "classification_requests": 0, "blocked_starts": []}
EMBEDDED_ROUNDS: dict[str, Any] = {
    "requests_per_round": 3, "classification_requests": 1,
    "blocked_starts": [
        "ask", "build", "buy", "check", "claim", "find", "go", "have", "learn", "let", "make", "pick", "plan to", "play", "repeat",
        "take", "tell people", "tell someone", "tell them", "tell you", "use", "visit",
    ],
}  # fmt: skip
ROUNDS_WITHOUT_GAIN = 20
# fewer, where one rule drops all that so many rounds bring; what is too similar depends on the draw as well, so it has more
ROUNDS_OF_ONE_RULE, ROUNDS_TOO_SIMILAR, LEAST_CANDIDATES = 5, 10, 20
ADVICE = {  # what to do where one rule drops most
    "too_similar": "the model repeats itself: try a higher temperature, other seed tasks, or another model",
    "empty": "nothing came that could be read: a stop sequence may end the answers at once; try another api, or another model",
    "cut_by_length": 'raise max_tokens; quirks="fixed" drops the last item alone',
    "cut_by_filter": "the provider's filter broke the answers off: try other seed tasks, or another model",
    "punctuation_start": 'a layout such as **bold**, perhaps: quirks="fixed" reads it',
    "too_short": 'is it a script without spaces? quirks="fixed" reads other scripts and counts their words',
    "non_ascii_start": 'another alphabet? quirks="fixed" reads other scripts',
}


@dataclass
class Round:
    """One round of step 1: what was asked, what came back, and what became of every candidate."""

    request_idx: int
    requests: list[Request]
    completions: list[Completion]
    admitted: list[MachineInstruction] = field(default_factory=list)
    rejected: list[Rejection] = field(default_factory=list)
    classification_requests: int = 0  # the last so many ask for classification tasks
    asked_as_classification: list[str] = field(default_factory=list)  # those admitted of theirs

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


def settle_rounds(embedded: bool = False, prompts: PromptSet | None = None) -> dict[str, Any]:
    """How step 1's rounds are: as released, what the embedded model changes, then what `rounds` in the set's prompt.yaml says.

    requests_per_round; classification_requests, those of them that ask for classification tasks; blocked_starts, first words in
    lower case. Raises ParameterError for more classification requests than a round has.
    """
    given = prompts.layout.rounds.list_given() if prompts else {}
    rounds = {**(EMBEDDED_ROUNDS if embedded else PAPER_ROUNDS), **given}
    size, special = rounds["requests_per_round"], rounds["classification_requests"]
    if special > size and "classification_requests" in given:
        raise ParameterError(f"classification_requests={special}: a round has {size} requests; ask for fewer")
    return {**rounds, "classification_requests": min(special, size)}


def choose_seed_instructions(
    seed_tasks: Sequence[SeedTask], use_clf_seed_tasks_only: bool = False, quirks: str = "published"
) -> list[str]:
    """The instructions of the seed tasks, all of them or those of classification tasks only.

    Warns where the rules of `quirks` would drop most of them. Raises ParameterError where none is left.
    """
    chosen = [task.instruction for task in seed_tasks if task.is_classification or not use_clf_seed_tasks_only]
    if not chosen:
        raise ParameterError("use_clf_seed_tasks_only: none of the seed tasks is a classification task")
    warn_of_dropped_seeds(chosen, quirks)
    return chosen


def list_classification_seeds(seed_tasks: Sequence[SeedTask]) -> list[str]:
    """The instructions of the classification tasks among them."""
    return [task.instruction for task in seed_tasks if task.is_classification]


def sample_in_context(
    rng: random.Random,
    human: Sequence[str],
    machine: Sequence[str],
    num_prompt_instructions: int = 8,
    num_machine_instructions: int = 2,
) -> list[str]:
    """In-context instructions of one prompt: up to 2 machine-written, the rest human-written, shuffled.

    An empty pool gives 8 human ones, a pool of one 7 + 1 (released `sample_machine_instructions` and its caller).
    Raises ParameterError where there are fewer seed tasks than the prompt needs.
    """
    from_machine = rng.sample(list(machine), min(num_machine_instructions, len(machine)))
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
    num_prompt_instructions: int = -1,
    num_machine_instructions: int = -1,
    use_clf_seed_tasks_only: bool = False,
    classification_requests: int = 0,
    classification_human: Sequence[str] = (),
    classification_machine: Sequence[str] = (),
    asked: Counter[str] | None = None,
    prompts: PromptSet | None = None,
) -> list[Request]:
    """The requests of one round of step 1, each with its own draw of in-context instructions, in the layout of `prompts` (None: ours).

    The last `classification_requests` of them ask for classification tasks, as `use_clf_seed_tasks_only` has all of them do, and
    draw from `classification_human`, if those are enough, and `classification_machine`. `asked` counts prompts already asked in
    the run: a repeated prompt is a new sample, not a cached answer.
    """
    asked, prompts = Counter() if asked is None else asked, prompts or load_shared_prompts()
    numbers = prompts.count_demonstrations(num_prompt_instructions, num_machine_instructions)
    requests = []
    if len(classification_human) < numbers["num_prompt_instructions"]:
        classification_requests = 0
    for index in range(requests_per_round):
        special = index >= requests_per_round - classification_requests
        known = (classification_human, classification_machine) if special else (human, machine)
        in_context = sample_in_context(rng, *known, **numbers)
        prompt = prompts.instruction_prompt(in_context, use_clf_seed_tasks_only or special, rng)
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
    num_prompt_instructions: int = -1,
    num_machine_instructions: int = -1,
    use_clf_seed_tasks_only: bool = False,
    classification_requests: int = 0,
    blocked_starts: Sequence[str] = (),
    rouge_threshold: float = 0.7,
    quirks: str = "published",
    max_rounds: int = 0,
    earlier: Sequence[MachineInstruction] = (),
    prompts: PromptSet | None = None,
) -> Iterator[Round]:
    """Step 1: yield rounds until the pool holds `num_instructions_to_generate` machine-written instructions, `earlier` ones included.

    The count is checked between rounds, so the last round may overshoot (Q9); `quirks="fixed"` stops at the number. Raises
    SelfInstructError after 20 rounds in a row that admit nothing, or fewer where one rule drops everything, and says why: the
    released loop would never end (Q8).
    """
    fixed, prompts = check_quirks(quirks), prompts or load_shared_prompts()
    only = use_clf_seed_tasks_only or prompts.layout.classification_only
    human = choose_seed_instructions(seed_tasks, only, quirks)
    classification_human = list_classification_seeds(seed_tasks)
    machine, first = [record.instruction for record in earlier], earlier[-1].request_idx + 1 if earlier else 0
    pool, asked, classification_machine = build_pool([*human, *machine], quirks), Counter(), []
    rng, gainless, request_idx = random.Random(random_seed), [], first
    while len(machine) < num_instructions_to_generate and not (max_rounds and request_idx - first >= max_rounds):
        requests = build_round(
            rng, human, machine, settings, requests_per_round=requests_per_round, asked=asked,
            num_prompt_instructions=num_prompt_instructions, use_clf_seed_tasks_only=only,
            num_machine_instructions=num_machine_instructions, prompts=prompts,
            classification_requests=classification_requests, classification_human=classification_human,
            classification_machine=classification_machine,
        )  # fmt: skip
        round_ = Round(
            request_idx, requests, client.complete(requests), classification_requests=classification_requests
        )
        room = num_instructions_to_generate - len(machine) if fixed else None
        judge_round(round_, pool, rouge_threshold, quirks, room, prompts.parser, blocked_starts)
        machine += [record.instruction for record in round_.admitted]
        classification_machine += round_.asked_as_classification
        gainless = [] if round_.admitted else [*gainless, round_]
        request_idx += 1
        yield round_
        if is_hopeless(gainless):
            have = f"{len(machine)} of {num_instructions_to_generate} so far"
            raise SelfInstructError(f"step 1 stopped: {explain_no_gain(gainless, have, quirks)}")


def is_hopeless(gainless: Sequence[Round]) -> bool:
    """True if these rounds, which admitted nothing, are enough to stop: fewer where one rule drops all candidates."""
    reasons = Counter(one.reason for round_ in gainless for one in round_.rejected)
    if len(reasons) != 1 or reasons.total() < LEAST_CANDIDATES:
        return len(gainless) >= ROUNDS_WITHOUT_GAIN
    return len(gainless) >= (ROUNDS_TOO_SIMILAR if "too_similar" in reasons else ROUNDS_OF_ONE_RULE)


def explain_no_gain(gainless: Sequence[Round], have: str, quirks: str = "published") -> str:
    """Why these rounds admitted nothing: the reasons with their counts, an example of the first, and what to do about it."""
    rejected = [one for round_ in gainless for one in round_.rejected]
    reasons = Counter(one.reason for one in rejected).most_common()
    failed = sum(round_.failed for round_ in gainless)
    asked = sum(len(round_.requests) for round_ in gainless)
    lines = [f"{len(gainless)} rounds in a row admitted no new instruction ({have})"]
    if failed:
        lines.append(f"{failed} of {asked} requests failed")
    if reasons:
        counts = ", ".join(f"{reason} {count}" for reason, count in reasons[:4])
        example = next(one.candidate for one in rejected if one.reason == reasons[0][0])
        such = f" (such as {example[:60]!r})" if example else ""
        lines.append(f"of {len(rejected)} candidates dropped: {counts}{such}")
        lines += [ADVICE[reason] for reason, _ in reasons[:2] if _has_advice(reason, quirks)]
    return "; ".join([*lines, "rejections.jsonl has every one"])


def _has_advice(reason: str, quirks: str) -> bool:
    return reason in ADVICE and not (quirks == "fixed" and "quirks=" in ADVICE[reason])


def warn_of_dropped_seeds(human: Sequence[str], quirks: str = "published") -> None:
    """Warn where the rules would drop most seed instructions: a model that writes like them gets nothing admitted."""
    reasons = Counter(filter(None, (instruction_rejection(_shape(text, quirks), quirks) for text in human)))
    if 2 * reasons.total() <= len(human):
        return
    counts = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common(3))
    advice = "; ".join(ADVICE[reason] for reason, _ in reasons.most_common(1) if _has_advice(reason, quirks))
    warnings.warn(
        f"the rules of step 1 would drop {reasons.total()} of the {len(human)} seed instructions themselves ({counts}), and so "
        "most of what a model writes after their example" + (f": {advice}" if advice else ""),
        stacklevel=2,
    )


def _shape(text: str, quirks: str) -> str:
    """A seed instruction as the parser would hand it to the rules, as one item."""
    text = " ".join(text.split())
    return text[:1].upper() + text[1:] if quirks == "fixed" else text.capitalize()


def build_pool(texts: Sequence[str], quirks: str = "published") -> InstructionPool:
    """A task pool. Q6: released, only a-z and 0-9 count, so Chinese is never a repetition; fixed counts the words of every script."""
    return InstructionPool(texts, quirks=quirks, tokenizer="unicode" if check_quirks(quirks) else "rouge_score")


def judge_round(
    round_: Round,
    pool: InstructionPool,
    rouge_threshold: float = 0.7,
    quirks: str = "published",
    room: int | None = None,
    parser: str = "numbered",
    blocked_starts: Sequence[str] = (),
) -> None:
    """Parse, filter and admit the completions of `round_` in order, filling its `admitted` and `rejected`.

    Every parsed candidate ends in one of the two lists; an admitted one joins `pool` at once. At most `room` are admitted.
    One that begins with one of `blocked_starts`, words in lower case, is dropped as `blocked_start`.
    """
    passed: list[tuple[int, str]] = []
    for index, completion in enumerate(round_.completions):
        for text, reason in judge_completion(completion, quirks, parser, blocked_starts):
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


def judge_completion(
    completion: Completion,
    quirks: str = "published",
    parser: str = "numbered",
    blocked_starts: Sequence[str] = (),
) -> list[tuple[str, str | None]]:
    """Each candidate of one completion with the rule that drops it before the similarity filter, or None.

    A completion that was cut off loses all its candidates (Q3; fixed: the last one), an empty one counts as one candidate.
    A request that failed has none: it is counted as failed and asked again by the next run.
    """
    if completion.error is not None:
        return []
    items = split_instructions(completion.text, quirks, parser)
    if not items:
        return [("", "empty")]
    judged = [(item, instruction_rejection(item, quirks) or _find_blocked(item, blocked_starts)) for item in items]
    if cut := CUT_OFF.get(completion.finish_reason):
        whole = judged[:-1] if quirks == "fixed" else []
        judged = whole + [(item, cut) for item in items[len(whole) :]]
    return judged


def _find_blocked(text: str, blocked_starts: Sequence[str]) -> str | None:
    return "blocked_start" if text.lower().startswith(tuple(start + " " for start in blocked_starts)) else None


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
        if index >= len(round_.requests) - round_.classification_requests:
            round_.asked_as_classification.append(text)
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
