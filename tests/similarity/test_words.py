"""How many words a text has, in scripts with and without spaces."""

import time

import pytest

from selfinstruct.filters import MAX_WORDS, instruction_rejection
from selfinstruct.similarity.words import count_words, split_unicode

WITHOUT_SPACES = {
    "Chinese": "写一首关于春天的短诗。",
    "Japanese": "春についての短い詩を書いてください。",
    "half-width kana": "ﾊﾙﾉｼｦｶｲﾃｸﾀﾞｻｲ",
    "Thai": "เขียนบทกวีสั้นเกี่ยวกับฤดูใบไม้ผลิ",
    "Lao": "ຂຽນບົດກະວີສັ້ນກ່ຽວກັບລະດູໃບໄມ້ປົ່ງ",
    "Khmer": "សរសេរកំណាព្យខ្លីអំពីរដូវផ្ការីក",
    "Burmese": "နွေဦးရာသီအကြောင်းကဗျာတိုတစ်ပုဒ်ရေးပါ",
    "Tibetan": "དཔྱིད་ཀའི་སྐོར་ལ་སྙན་ངག་ཐུང་ངུ་ཞིག་བྲིས།",
}


@pytest.mark.parametrize("script", WITHOUT_SPACES)
def test_fixed_counts_the_words_of_scripts_without_spaces(script):
    text = WITHOUT_SPACES[script]
    assert count_words(text) == 1 and 4 <= count_words(text, "fixed") <= 20
    assert instruction_rejection(text) == "too_short" and instruction_rejection(text, "fixed") is None


@pytest.mark.parametrize("script", WITHOUT_SPACES)
def test_fixed_still_drops_what_is_too_short_or_too_long(script):
    text = WITHOUT_SPACES[script]
    assert instruction_rejection(text[:3], "fixed") == "too_short"
    assert instruction_rejection(text * 40, "fixed") == "too_long"
    assert instruction_rejection(text * 3, "fixed") is None  # 40 words of Thai are no 150


@pytest.mark.parametrize(
    ("text", "words"),
    [("把Python代码翻译 成 Java, 好吗?", 10), ("Translate 你好 - now", 4), ("一、二、三。", 3), ("。。。", 1), ("", 0),
     ("봄에 대해 짧은 시를 쓰세요", 5), ("Напиши стих - о весне", 5), ("a - b", 3)],
)  # fmt: skip
def test_a_mixed_text_has_the_words_of_both(text, words):
    assert count_words(text, "fixed") == words


def test_text_with_spaces_counts_as_published():
    text = "It's a well-known fact - isn't it?"
    assert count_words(text, "fixed") == count_words(text) == len(text.split()) == 7


def test_fixed_drops_a_word_that_is_hundreds_of_the_tokenizers():
    text = "Say all of " + "a.b-c" * MAX_WORDS
    assert instruction_rejection(text) is None
    assert instruction_rejection(text, "fixed") == "too_long"


def test_a_long_text_has_the_tokens_of_its_parts_and_takes_no_longer():
    part = "Ｅ\u0301tude ﬁne \u1100\u1161 10\u00a0km ไทย "
    assert split_unicode(part * 300) == split_unicode(part) * 300
    assert split_unicode("e\u0301" * 1500) == ["é" * 1500]
    started = time.process_time()
    split_unicode("\u0300\u0316" * 40_000)
    assert time.process_time() - started < 2  # in one piece it takes 6 s
