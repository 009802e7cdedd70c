"""A model as judge of responses: only ever next to a person's grades, and only worth what they make of it.

    print(estimate_requests(requests, "gpt-4o-mini"))        # of `steps`: before anything is asked
    grades = grade_with_model(client, items)                 # the rubric; rater "model: NAME"
    verdicts = compare_with_model(client, pairs)             # each pair twice, with its places swapped
    summarise_verdicts(verdicts)["flipped"]                  # how often the place decides, and not the response
    correct_shares(ratings, grades, key)                     # prediction-powered: corrected by the person's grades

What such a judge is known to do (Zheng et al. 2023, "Judging LLM-as-a-judge"): it favours a place and the longer answer. Both are
reported, next to its agreement with the person. An answer that names no grade, or more than one, is no verdict: it is counted,
and never guessed at.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..analysis.agreement import cohen_kappa, kappa_interval, predict_share, share_interval
from ..display import announce
from ..files import EndpointError, ParameterError
from ..models.protocol import NO_TEXT
from ..records import Completion, Request
from ..steps.estimate import estimate_requests
from .items import measure_share
from .questions import MEANINGS, VALID
from .ratings import RANKS, Rating, measure_two_raters, prefer_longer
from .responses import KeyRow, RatingItem

if TYPE_CHECKING:
    from ..models.client import ModelClient

MAX_CHARACTERS = 2000  # of each text: a longer one would push the question out of a small model's sight
TASK = "Task: {instruction}\nInput: {input}\nReference answer: {target}\n\n"
RUBRIC_PROMPT = (
    "Below are a task, one good answer to it for reference, and a response by a language model. Grade the response with one letter:\n"
    + "".join(f"{grade}: {text}\n" for grade, text in MEANINGS.items())
    + f"\n{TASK}Response: {{response}}\n\nGrade (A, B, C or D):"
)
PAIR_PROMPT = (
    "Below are a task, one good answer to it for reference, and two responses by language models. Which response is better? Answer "
    f"with 1, 2, or tie.\n\n{TASK}Response 1: {{first}}\n\nResponse 2: {{second}}\n\nBetter response (1, 2 or tie):"
)
ANSWER_TOKENS = 5
START = r"[\s*\"'(\[]*"
NOT_ALONE = r"(?![\w'])(?!\s+[a-z])"  # a letter that is a word of a sentence, as in "A response that"
GRADE = re.compile(rf"{START}(?:grade\s*:?\s*)?{START}([a-d]){NOT_ALONE}", re.IGNORECASE)
OTHER_GRADE = re.compile(rf"(?<![\w'])([A-D]){NOT_ALONE}|[/,|&+-]\s*([a-d]){NOT_ALONE}")
VERDICT = re.compile(rf"{START}(?:response\s*)?{START}(1|2|tie)\b(?![.,]?\d)", re.IGNORECASE)
ANY_VERDICT = re.compile(r"\b(1|2|tie)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Pair:
    """Two responses to one task; `first` and `second` are columns."""

    task: str
    first: str
    second: str
    items: tuple[RatingItem, RatingItem]


@dataclass(frozen=True)
class Verdict:
    """What the judge said of a pair, in the order given and with places swapped: "first", "second" or "tie" as *columns*, None where
    it said none of them.
    """

    pair: Pair
    straight: str | None
    swapped: str | None

    @property
    def is_whole(self) -> bool:
        return self.straight is not None and self.swapped is not None

    @property
    def flipped(self) -> bool:
        """True if the verdict changed with the places."""
        return self.straight != self.swapped

    @property
    def winner(self) -> str:
        """The column that won in both places; anything else is a tie."""
        return self.straight or "tie" if not self.flipped else "tie"


def judge_responses(
    client: ModelClient,
    items: Sequence[RatingItem],
    key: Sequence[KeyRow],
    ratings: Mapping[str, Rating],
    rater_model: str,
    judge_columns: str = "",
    max_tokens: int = ANSWER_TOKENS,
    base_url: str = "",
    price_table: str = "",
    tell: Callable[[str], None] = announce,
) -> dict[str, Any]:
    """Everything of notebook 15: says what it will come to, asks, and sets the answers against the person's `ratings`.

    Rows by name: "answers" (how many are verdicts), "rubric" and "pairs" (agreement with the person), "habits", "corrected" (shares
    of A or B, by column).
    """
    columns = choose_pair(judge_columns, list(dict.fromkeys(row.column for row in key)))
    pairs = match_pairs(items, key, *columns) if columns else []
    requests = [*build_grade_requests(items, max_tokens), *build_pair_requests(pairs, max_tokens)]
    tell(estimate_requests(requests, rater_model, base_url, price_table))
    grades, verdicts = grade_with_model(client, items, max_tokens), compare_with_model(client, pairs, max_tokens)
    graded = {id_: rating for id_, rating in grades.items() if rating.grade}
    found, longer = summarise_verdicts(verdicts), {"judge": graded, "person": ratings}
    answers = count_answers({"grade": (len(graded), len(items)), "pair": (found["readable"], found["pairs"])})
    tell(say_answers(answers))
    rubric = {**measure_two_raters(ratings, grades), "winner of pairs": compare_verdicts(verdicts, ratings)}
    habits = [{"habit": name, "by": "judge, pairs", **row} for name, row in found["shares"].items()]
    habits += [
        {"habit": "longer preferred", "by": f"{name}, grades", **prefer_longer(items, given, key)}
        for name, given in longer.items()
    ]
    return {
        "rater": rater_model, "graded": len(graded), "of": len(items), "columns": columns, "pairs": found["pairs"], "readable": found["readable"],
        "answers": answers,
        "rubric": [{"measure": name, **row} for name, row in rubric.items()], "habits": habits,
        "corrected": [{"column": name, **row} for name, row in correct_shares(ratings, grades, key).items()],
    }  # fmt: skip


def count_answers(counts: Mapping[str, tuple[int, int]]) -> list[dict[str, Any]]:
    """What was asked for -> (verdicts, things asked about), as rows with what is left: "no verdict"."""
    asked = {name: count for name, count in counts.items() if count[1]}
    return [{"asked": name, "of": of, "verdicts": n, "no verdict": of - n} for name, (n, of) in asked.items()]


def say_answers(answers: Sequence[Mapping[str, Any]]) -> str:
    """How many answers of the judge are verdicts, in a sentence, and that few are too few."""
    parts = [f"a {row['asked']} in {row['verdicts']} of {row['of']}" for row in answers]
    line = f"The judge names {' and '.join(parts)}; the others are no verdict and count for nothing."
    if any(2 * row["verdicts"] < row["of"] for row in answers):
        line += " That is less than half: it does not do this task, so conclude nothing from it; choose another rater_model."
    return line


def choose_pair(judge_columns: str, columns: Sequence[str]) -> tuple[str, str] | None:
    """The two columns that `judge_columns` names, "" the last two; None where there are not two.

    Raises ParameterError for anything but two of `columns`.
    """
    named = [name.strip() for name in judge_columns.split(",") if name.strip()]
    if not named:
        return (columns[-2], columns[-1]) if len(columns) > 1 else None
    if len(set(named)) != 2 or not set(named) <= set(columns):
        raise ParameterError(f'judge_columns="{judge_columns}": two columns, please, of {", ".join(columns) or "none"}')
    return named[0], named[1]


def build_grade_requests(items: Sequence[RatingItem], max_tokens: int = ANSWER_TOKENS) -> list[Request]:
    """One request for each response."""
    prompts = [RUBRIC_PROMPT.format(**_cut_texts(item), response=_cut(item.response)) for item in items]
    return [_ask(prompt, max_tokens) for prompt in prompts]


def build_pair_requests(pairs: Sequence[Pair], max_tokens: int = ANSWER_TOKENS) -> list[Request]:
    """Two requests for each pair: in its order, and swapped."""
    prompts = []
    for pair in pairs:
        one, other = (_cut(item.response) for item in pair.items)
        texts = _cut_texts(pair.items[0])
        prompts += [PAIR_PROMPT.format(**texts, first=a, second=b) for a, b in ((one, other), (other, one))]
    return [_ask(prompt, max_tokens) for prompt in prompts]


def _ask(prompt: str, max_tokens: int) -> Request:
    return Request(prompt=prompt, max_tokens=max_tokens, temperature=0.0, top_p=1.0, stop=("\n",))


def _cut_texts(item: RatingItem) -> dict[str, str]:
    return {name: _cut(getattr(item, name)) for name in ("instruction", "input", "target")}


def _cut(text: str) -> str:
    return text[:MAX_CHARACTERS] or "(none)"


def match_pairs(items: Sequence[RatingItem], key: Sequence[KeyRow], first: str, second: str) -> list[Pair]:
    """The responses of two columns, task by task; tasks to which both gave the same answer have nothing to compare."""
    texts, tasks = {item.id: item for item in items}, {}
    for row in key:
        tasks.setdefault(row.task, {})[row.column] = row.id
    both = [(task, one[first], one[second]) for task, one in tasks.items() if first in one and second in one]
    return [Pair(task, first, second, (texts[a], texts[b])) for task, a, b in both if a != b]


def grade_with_model(
    client: ModelClient, items: Sequence[RatingItem], max_tokens: int = ANSWER_TOKENS
) -> dict[str, Rating]:
    """id -> the model's grade; None where it gives none, or its request failed."""
    completions = _complete(client, build_grade_requests(items, max_tokens), "grades by a model")
    rater = f"model: {client.describe().get('model', 'unknown')}"
    return {
        item.id: Rating(id=item.id, rater=rater, grade=parse_grade(one.text))
        for item, one in zip(items, completions, strict=True)
    }


def _complete(client: ModelClient, requests: Sequence[Request], desc: str) -> list[Completion]:
    """The completions. Of a judge that writes thoughts and no answer every one is empty: that is no verdict, and no fault of the way
    to it, which is raised.
    """
    try:
        return client.complete(requests, desc=desc)
    except EndpointError as error:
        if NO_TEXT not in str(error):
            raise
        print(f"No answer from the judge: {error}")
        return [Completion(text="", finish_reason="error", created_at="", error=str(error)) for _ in requests]


def parse_grade(text: str) -> str | None:
    """The grade that an answer begins with; None for no grade, and for more than one.

    >>> parse_grade(" B: small flaws"), parse_grade("A response that"), parse_grade("**c**"), parse_grade("A/B")
    ('B', None, 'C', None)
    """
    found = GRADE.match(text)
    if not found:
        return None
    grades = {found[1].upper(), *(letter.upper() for pair in OTHER_GRADE.findall(text, found.end()) for letter in pair)}
    return found[1].upper() if grades - {""} == {found[1].upper()} else None


def compare_with_model(client: ModelClient, pairs: Sequence[Pair], max_tokens: int = ANSWER_TOKENS) -> list[Verdict]:
    """What the judge says of each pair, asked twice with places swapped."""
    completions = iter(_complete(client, build_pair_requests(pairs, max_tokens), "pairs by a model"))
    verdicts = []
    for pair in pairs:
        straight, swapped = parse_verdict(next(completions).text), parse_verdict(next(completions).text)
        back = {"first": "second", "second": "first", "tie": "tie", None: None}
        verdicts.append(Verdict(pair, straight, back[swapped]))
    return verdicts


def parse_verdict(text: str) -> str | None:
    """ "first", "second" or "tie" from an answer such as "1", "Response 2" or "tie"; None for none of them, and for two."""
    found = VERDICT.match(text)
    named = {one.lower() for one in ANY_VERDICT.findall(text)}
    return {"1": "first", "2": "second", "tie": "tie"}[found[1].lower()] if found and len(named) == 1 else None


def summarise_verdicts(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """Of all pairs with two readable verdicts: shares won by each column in both places, flips, how often the place named first wins,
    and how often a winner is the longer response; each with its 95 % interval.
    """
    whole = [one for one in verdicts if one.is_whole]
    decided = [one for one in whole if one.winner != "tie"]
    # of every single verdict that is no tie: straight "first" and swapped "second" both mean the first place
    places = [one.straight == "first" for one in whole if one.straight != "tie"]
    places += [one.swapped == "second" for one in whole if one.swapped != "tie"]
    longer = [_wins_longer(one) for one in decided if _length(one, "first") != _length(one, "second")]
    flags = {
        "won by the first column": [one.winner == "first" for one in whole],
        "won by the second column": [one.winner == "second" for one in whole],
        "flipped": [one.flipped for one in whole], "first place preferred": places, "longer preferred": longer,
    }  # fmt: skip
    rows = {name: _share(values) for name, values in flags.items()}
    return {"pairs": len(verdicts), "readable": len(whole), "shares": rows}


def _share(values: Sequence[bool]) -> dict[str, Any]:
    return {
        "of": len(values), "share": measure_share(values), "interval": share_interval(sum(values), len(values)),
    }  # fmt: skip


def _length(verdict: Verdict, side: str) -> int:
    return len(verdict.pair.items[side == "second"].response)


def _wins_longer(verdict: Verdict) -> bool:
    return verdict.winner == max(("first", "second"), key=lambda side: _length(verdict, side))


def compare_verdicts(verdicts: Sequence[Verdict], ratings: Mapping[str, Rating]) -> dict[str, Any]:
    """The judge's winner against the person's better grade (first, second or tie), over the pairs that the person graded both sides of."""
    pairs = []
    for one in (verdict for verdict in verdicts if verdict.is_whole):
        grades = [ratings[item.id].grade for item in one.pair.items if item.id in ratings and ratings[item.id].grade]
        if len(grades) == 2:
            first, second = (RANKS[grade] for grade in grades)
            pairs.append(("tie" if first == second else "first" if first > second else "second", one.winner))
    person, judge = [one for one, _ in pairs], [other for _, other in pairs]
    return {
        "both": len(pairs), "equal": measure_share([one == other for one, other in pairs]),
        "value": cohen_kappa(person, judge), "interval": kappa_interval(person, judge),
    }  # fmt: skip


def correct_shares(
    ratings: Mapping[str, Rating], judged: Mapping[str, Rating], key: Sequence[KeyRow]
) -> dict[str, dict[str, Any]]:
    """By column: the share of A or B by the person's few grades alone, by the judge alone, and corrected (`predict_share`).

    The few are a random part of the sample, since its order is random and a person begins at its top.
    """
    rows = {}
    for column in dict.fromkeys(row.column for row in key):
        ids = [row.id for row in key if row.column == column and row.id in judged and judged[row.id].grade]
        model = {id_: judged[id_].grade in VALID for id_ in ids}
        person = {id_: ratings[id_].grade in VALID for id_ in ids if id_ in ratings and ratings[id_].grade}
        labelled = [(said, model[id_]) for id_, said in person.items()]
        corrected = predict_share(labelled, [said for id_, said in model.items() if id_ not in person])
        rows[column] = {
            "person_share": measure_share(list(person.values())),
            "person_interval": share_interval(sum(person.values()), len(person)),
            "model_share": measure_share(list(model.values())), **corrected,
        }  # fmt: skip
    return rows
