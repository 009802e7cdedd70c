"""Canned answers to the three prompts of the method, decided by the prompt alone. For tests only.

A restart, another order or another concurrency meets the same answers; another `random_seed` meets others.
"""

from __future__ import annotations

import hashlib
import random
from typing import Any

from helpers.scripted import prompt_of

VERBS = (
    "write explain list describe compare suggest find name summarise translate rewrite sort plan choose design".split()
)
NOUNS = (
    "letter river recipe sentence garden teacher window journey market number story city planet train meeting".split()
)
PLACES = "village harbour school kitchen museum forest station library factory island theatre bakery".split()


def respond(body: dict[str, Any]) -> str:
    """The scripted completion for whichever prompt of the method `body` holds."""
    prompt = prompt_of(body)
    rng = random.Random(hashlib.sha256(prompt.encode()).hexdigest())
    task = prompt.rsplit("Task:", 1)[-1]
    if prompt.endswith("Is it classification?"):
        return " Yes" if task.strip().lower().startswith(("choose", "find", "name")) else " No"
    if "Class label:" in prompt:
        return f"Class label: Yes\nSentence: {_phrase(rng)}\nClass label: No\nSentence: {_phrase(rng)}\n"
    if prompt.startswith("Come up with a series of"):
        return " " + "\n".join(f"{number}. {text}" for number, text in enumerate(_instructions(rng), 9))[3:]
    return _instances(rng)


def _phrase(rng: random.Random) -> str:
    return f"the {rng.choice(NOUNS)} of the {rng.choice(PLACES)} and its {rng.choice(NOUNS)}"


def _instructions(rng: random.Random) -> list[str]:
    texts = [f"{rng.choice(VERBS)} {rng.randint(2, 9)} things about {_phrase(rng)}." for _ in range(4)]
    return [*texts, rng.choice(["draw a map of the town.", "too short", "write a program that counts."])]


def _instances(rng: random.Random) -> str:
    if rng.random() < 0.3:
        return f"Output: {_phrase(rng)}\n"
    if rng.random() < 0.2:
        return f"I cannot say much about {_phrase(rng)}."
    return "\n".join(f"Example {n}\nText: {_phrase(rng)}\nOutput: {_phrase(rng)}" for n in (1, 2))
