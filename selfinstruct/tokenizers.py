"""How a text becomes tokens: as rouge_score splits it, or for languages that rouge_score cannot see.

rouge_score keeps only a-z and 0-9, so a Chinese instruction has no tokens and scores 0 even against itself: nothing in
such a language is ever found to be a repetition. `quirks="fixed"` lets a caller ask for another tokenizer by name.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

ASCII_WORD = re.compile("[a-z0-9]+")
# scripts written without spaces: Thai and Lao, Myanmar, Khmer, kana, Han
UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")


def split_ascii(text: str) -> list[str]:
    """rouge_score's tokens: runs of a-z and 0-9 in the lower-cased text; accents, CJK and the rest separate them."""
    return ASCII_WORD.findall(text.lower())


class _WordCharacters(dict):
    """A `str.translate` table that learns: letters, marks and digits stay, unspaced scripts are spaced out."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        kept = character if unicodedata.category(character)[0] in "LMN" else " "
        self[code] = f" {kept} " if UNSPACED.match(character) else kept
        return self[code]


_WORD_CHARACTERS = _WordCharacters()


def split_unicode(text: str) -> list[str]:
    """Words of any script; of scripts written without spaces, characters. On ASCII text equal to `split_ascii`."""
    return unicodedata.normalize("NFKC", text).lower().translate(_WORD_CHARACTERS).split()


TOKENIZERS = {"rouge_score": split_ascii, "unicode": split_unicode}


def choose_tokenizer(quirks: str, tokenizer: str | Callable[[str], list[str]]) -> Callable[[str], list[str]]:
    """The function that splits texts: "rouge_score", the only one as published, "unicode", or the caller's own."""
    if quirks not in ("published", "fixed"):
        raise parameter_error(f'quirks={quirks!r}; use "published" or "fixed"')
    if quirks == "published" and tokenizer != "rouge_score":
        raise parameter_error(f'tokenizer={tokenizer!r} changes published scores; ask for it with quirks="fixed"')
    if not callable(tokenizer) and tokenizer not in TOKENIZERS:
        raise parameter_error(f"tokenizer={tokenizer!r}; use one of {sorted(TOKENIZERS)} or a function str -> list")
    return tokenizer if callable(tokenizer) else TOKENIZERS[tokenizer]


def parameter_error(message: str) -> Exception:
    """A `ParameterError`; the error tree is loaded only when something is wrong."""
    from selfinstruct.records import ParameterError  # pydantic takes a while to load

    return ParameterError(message)
