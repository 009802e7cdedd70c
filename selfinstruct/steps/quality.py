"""What goes wrong first with a small model, counted: texts copied from the prompt, repeated, refused, echoed or cut off.

    shown = list_prompt_texts(load_prompts())
    found = measure_quality(instances, shown)           # one Quality an instance, in order
    count_faults(found)                                 # {"copied_from_prompt": 3, ...}

Nothing here drops a row; `quirks="fixed"` of step 4 drops what is copied, under that name. The paper does not measure this.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ..parsing import parse_instances
from ..prompts import PromptSet
from ..records import Instance
from ..similarity import InstructionPool
from .export import ParsedTask

COPIED_THRESHOLD = 0.5  # ROUGE-L; above it a text says what the prompt said
FEWEST_WORDS = 4  # a shorter text is equal to another by chance too often: counted apart
SAME_SENTENCE = 3  # times
COPIED = "copied_from_prompt"
FAULTS = (COPIED, "short_copy", "repeats_itself", "refusal", "echoes_instruction", "cut_in_word")

_REFUSAL = re.compile(
    r"^\W*(?:(?:i['’]m|i am) (?:sorry|unable|not able|just an? ai)|sorry\s*[,!.]|i (?:cannot|can['’]t|can not|won['’]t)\b|as an ai\b"
    r"|unfortunately,? i\b)",
    re.IGNORECASE,
)
_WORD = re.compile(r"[^\W\d_]+")
_LAST_WORD = re.compile(r"(?<![^\W\d_])[^\W\d_]{2,}$")


@dataclass(frozen=True)
class Quality:
    """One instance: the prompt's text that it is nearest to, how near (ROUGE-L), and its faults."""

    nearest: str
    score: float
    faults: tuple[str, ...]


def list_prompt_texts(prompts: PromptSet) -> list[str]:
    """Every text of the few-shot prompts of step 3: the instructions, inputs and outputs of the demonstrations."""
    texts = []
    for prefix, is_classification in ((prompts.input_first, False), (prompts.output_first, True)):
        for block in prompts.to_english(prefix).split("\nTask:")[1:-1]:
            instruction, _, rest = block.strip().partition("\n")
            examples = parse_instances(rest, instruction, is_classification, None)
            texts += [instruction, *(text for one in examples for text in (one.input, one.output) if text)]
    return list(dict.fromkeys(texts))


def measure_quality(
    instances: Sequence[tuple[str, Instance]], prompt_texts: Sequence[str] = (), threshold: float = COPIED_THRESHOLD
) -> list[Quality]:
    """The quality of (instruction, instance) pairs, in order; `prompt_texts` is all that stood in their prompts.

    A text counts as copied where its ROUGE-L with one of `prompt_texts` is above `threshold`; one of fewer than four words
    only where it is equal to one, as a "short_copy".
    """
    pool, exact = InstructionPool(prompt_texts), {_normalise(text) for text in prompt_texts}
    cut = _find_cut_words([instance.output for _, instance in instances])
    found = []
    for (instruction, instance), is_cut in zip(instances, cut, strict=True):
        nearest, score = _find_nearest(pool, instance)
        short = len(instance.output.split()) < FEWEST_WORDS
        tests = {
            COPIED: score > threshold,
            "short_copy": short and _normalise(instance.output) in exact,
            "repeats_itself": _count_commonest_sentence(instance.output) >= SAME_SENTENCE,
            "refusal": _REFUSAL.match(instance.output) is not None,
            "echoes_instruction": _normalise(instance.output) == _normalise(instruction),
            "cut_in_word": is_cut,
        }
        found.append(Quality(nearest, score, tuple(name for name, true in tests.items() if true)))
    return found


def measure_tasks(
    tasks: Sequence[ParsedTask], prompts: PromptSet, threshold: float = COPIED_THRESHOLD
) -> list[Quality]:
    """The quality of every candidate of `tasks`, before any filter, against all that stood in their prompts."""
    pairs = [(task.instruction, one) for task in tasks for one in task.candidates]
    return measure_quality(pairs, list_prompt_texts(prompts), threshold)


def drop_copied(tasks: Sequence[ParsedTask], prompts: PromptSet, threshold: float = COPIED_THRESHOLD) -> None:
    """Move what `tasks` keep and copied from the prompt to their rejections, as "copied_from_prompt"; not in the released code."""
    texts = list_prompt_texts(prompts)
    for task in tasks:
        found = measure_quality([(task.instruction, one) for one in task.kept], texts, threshold)
        copied = [one for one, quality in zip(task.kept, found, strict=True) if COPIED in quality.faults]
        task.kept = [one for one in task.kept if one not in copied]
        for one in copied:
            task.reject(one, COPIED)


def count_faults(found: Sequence[Quality]) -> dict[str, int]:
    """How many instances have each fault."""
    counted = Counter(fault for one in found for fault in one.faults)
    return {fault: counted[fault] for fault in FAULTS}


def _find_nearest(pool: InstructionPool, instance: Instance) -> tuple[str, float]:
    """The prompt's text nearest to the output or the input, whichever is nearer; ("", 0.0) for short texts."""
    texts = [text for text in (instance.output, instance.input) if len(text.split()) >= FEWEST_WORDS]
    best = [pool.nearest(text, 1)[0] for text in texts] if len(pool) else []
    return max(best, key=lambda pair: pair[1], default=("", 0.0))


def _normalise(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))


def _count_commonest_sentence(text: str) -> int:
    sentences = (_normalise(sentence) for sentence in re.split(r"[.!?\n]+", text))
    return max(Counter(sentence for sentence in sentences if " " in sentence).values(), default=0)


def _find_cut_words(texts: Sequence[str]) -> list[bool]:
    """For each text: True if it ends in a word seen nowhere else that begins a longer word seen elsewhere."""
    words = Counter(word.casefold() for text in texts for word in _WORD.findall(text))
    in_order = sorted(words)
    ends = [match[0].casefold() if (match := _LAST_WORD.search(text)) else "" for text in texts]
    return [bool(end) and words[end] == 1 and _begins_another(end, in_order) for end in ends]


def _begins_another(word: str, in_order: Sequence[str]) -> bool:
    next_one = bisect_right(in_order, word)
    return next_one < len(in_order) and in_order[next_one].startswith(word)
