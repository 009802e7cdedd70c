"""A client without a model: it answers what a test says."""

from __future__ import annotations

import random

from selfinstruct.prompts import PromptSet, request_settings
from selfinstruct.records import Completion, SeedTask

SETTINGS = request_settings("instructions", embedded=False)
WORDS = "amber birch cedar delta ember fjord grove haven islet jolly knoll lunar maple north ocean pearl".split()
TEMPLATES = PromptSet(classification="C Task:", output_first="O Task:", input_first="I Task:", name="scripted")


def completion(text, finish_reason="stop", error=None):
    choices = {"choices": [{"text": text, "finish_reason": finish_reason}]}
    return Completion(
        text=text, finish_reason=finish_reason, prompt_tokens=1, completion_tokens=1, created_at="2026-01-01T00:00:00",
        latency_s=0.0, cached=False, error=error, response=None if error else choices,
    )  # fmt: skip


class ScriptedClient:
    """Answers every request with `answer(request, number)`; keeps what was asked."""

    def __init__(self, answer):
        self.answer, self.asked = answer, []

    def complete(self, requests, desc=""):
        self.asked += requests
        first = len(self.asked) - len(requests)
        return [self.answer(request, first + number) for number, request in enumerate(requests)]


def seeds(number=12):
    return [
        SeedTask(id=f"s{n}", name=f"s{n}", instruction=f"Seed words {WORDS[n]} and {WORDS[-n]} number {n}",
                 instances=[{"input": "", "output": "x"}], is_classification=n % 3 == 0)
        for n in range(number)
    ]  # fmt: skip


def fresh(request, number):
    rng = random.Random(f"{number}{request.prompt}")
    return completion(" " + "\n10. ".join(" ".join(rng.sample(WORDS, 6)) for _ in range(3)))
