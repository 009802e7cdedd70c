"""Twenty seed tasks and a model that writes new ones from them: step 1 in the small."""

from __future__ import annotations

import random

from helpers.scripted import prompt_of

from selfinstruct.records import SeedTask

WORDS = "amber birch cedar delta ember fjord grove haven inlet jetty knoll ledge maple north ocean petal quartz river stone tulip".split()


def seed_tasks():

    common = {"name": "n", "instances": [{"input": "", "output": "x"}], "is_classification": False}
    return [
        SeedTask(id=f"s{n}", instruction=f"Describe the {word} in {n} words", **common) for n, word in enumerate(WORDS)
    ]


def scripted_model(body: dict) -> str:
    """Answers for all three steps that depend on the prompt alone."""
    prompt = prompt_of(body)
    if prompt.startswith("Come up with a series of tasks"):
        rng = random.Random(prompt)
        items = [" ".join(rng.sample(WORDS, 5)) for _ in range(3)]
        return " " + "\n".join([items[0], *(f"{number}. {item}" for number, item in enumerate(items[1:], 10))])
    if prompt.endswith("Is it classification?"):
        return " Yes" if len(prompt) % 3 == 0 else " No"
    return "Class label: amber\nText: a stone" if len(prompt) % 3 == 0 else "Example 1\nInput: a stone\nOutput: a river"
