"""Pairs have the ids of the model's own tokenizer, to the last control character."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from sentence_transformers import CrossEncoder
from tokenizers import AddedToken, Tokenizer, normalizers, pre_tokenizers
from tokenizers import models as kinds

from tests.unit import tiny_models
from worker.engine.model_paths import bundled_path
from worker.engine.text_tokenizers import REMEMBERED_CHARS, WordTokenizer, splits_at_spaces
from worker.engine.tokens import TEXTS_AT_ONCE, PairTokenizer
from worker.engine.truncation import longest_first

Pair = tuple[str, str]

#: The ids of a pair including the special ones, and whether some were truncated.
Encoded = tuple[list[int], bool]

NASTY = {
    "nothing": "",
    "a space": " ",
    "many spaces": "   many   spaces    in     between   ",
    "tabs and newlines": "\ttab\tand\nnewline\r\nand\x0bvertical\x0cfeed ",
    "control characters": "a\x00b \x01 c\x1b[0md \x7f e\x80f \x85 g",
    "separators": "one\x1ctwo \x1d three\x1e four \x1f five \x1c\x1d\x1e\x1f six",
    "other spaces": "no\u00a0break \u3000 wide\u3000r \u2003em\u2009thin \u202f \u2028 \u2029",
    "zero width": "zero\u200bwidth \u200b \u200djoin\u200der \ufeff mark\u2060er soft\u00adhyphen",
    "accents": "résumé re\u0301sume\u0301 Größe ﬁne İstanbul ΑΣ Σ ǅ ẞ",
    "accents after spaces": "\u0301 a \u0301b \u0308\u0301 c \u0301\u200b \u0301",
    "CJK": "日本語のPDFを開く 漢字 kanji漢 字 한국어 ไทย 𠀀𪜶",
    "emoji": "🙂🎉 pdf 👩‍👩‍👧 🏳️‍🌈 ☎️ 🇩🇪",
    "right to left": "مرحبا \u200f שלום \u202eabc\u202c",
    "special tokens": "[SEP] a[SEP]b [MASK]. [CLS][PAD] [UNK] [sep] [ SEP ] [SE P]",
    "special tokens in words": "x[MASK]y[SEP] [SEP]z ##ing [ MASK] [MASK",
    "punctuation": "it's (a) test... https://example.org/a_b?c=1&d=%20 $5.00 a--b ¿qué? «x» …",
    "100 characters": "x" * 100,
    "101 characters": "x" * 101 + " short " + "y" * 101 + "!",
    "characters that are no words": "\x00 \x01 \u200b  \ufeff " * 300 + "and a word",
    "spaces before words": " " * 5_000 + "words after spaces " * 300,
    "spaces between words": (" " * 60 + "word and") * 30,
    "more words than are read": " ".join(f"word{number}" for number in range(700)),
    "more tokens than are read": "internationalisation-of-antidisestablishmentarianism " * 200,
    "punctuation and no space": "a.b," * 5_000,
    "Chinese and no space": "\u6587\u672c\u691c\u7d22" * 3_000,
    "unknown words and no space": f"{'x' * 101}\u3002{'y' * 99}!" * 300,
    "words and no space": f"{'un' * 49}\u3002" * 300,
    "special tokens and no space": "a[SEP]\u6587[MASK]" * 1_500,
    "accents and no space": "e\u0301.\uac00\u0301" * 4_000,
    "private use and unassigned": "\ue000 a\U000e0001b \U0010ffff \ufdd0 \u0378",
}


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return tiny_models.bundled_tokenizer()


@pytest.fixture(scope="module")
def few_words() -> Any:
    """Return a tokenizer that is faster to make, for tests of lengths and not of words."""
    return tiny_models.bert_tokenizer()


def expected(tokenizer: Any, pairs: Sequence[Pair], max_length: int) -> list[Encoded]:
    """Return the ids of pairs from the tokenizer itself."""
    queries, documents = zip(*pairs, strict=True)
    encoded = tokenizer(
        list(queries), list(documents), truncation="longest_first", max_length=max_length
    )
    cut = [bool(encoding.overflowing) for encoding in encoded.encodings]
    return list(zip(encoded["input_ids"], cut, strict=True))


def ours(tokenizer: Any, pairs: Sequence[Pair], made: PairTokenizer) -> list[Encoded]:
    begin, end = tokenizer.cls_token_id, tokenizer.sep_token_id
    encoded = []
    columns = made.columns(pairs)
    assert len(columns) == len(pairs)
    for place, pair in enumerate(made.tokenize(pairs)):
        ids = [begin, *pair.query.tolist(), end, *pair.document.tolist(), end]
        assert pair.length == len(ids) == columns.lengths[place]
        assert pair.query.tobytes() == columns.queries[place]
        assert pair.document.tobytes() == columns.documents[place]
        assert len(pair.query) == columns.query_lengths[place]
        assert pair.lost == columns.lost[place]
        encoded.append((ids, pair.lost > 0))
    return encoded


def assert_same(tokenizer: Any, pairs: Sequence[Pair], max_length: int = 512) -> None:
    """Check that both return the same ids for each pair; show the first pair that differs."""
    theirs = expected(tokenizer, pairs, max_length)
    for pair, one, other in zip(
        pairs, ours(tokenizer, pairs, PairTokenizer(tokenizer, max_length)), theirs, strict=True
    ):
        if one != other:
            assert (pair, *one) == (pair, *other)


# Ids of texts


@pytest.mark.parametrize("text", NASTY.values(), ids=NASTY)
def test_a_nasty_text_has_the_tokenizers_ids(tokenizer: Any, text: str) -> None:
    assert_same(tokenizer, [(text, "some words"), ("some words", text)])


@pytest.mark.parametrize("text", NASTY.values(), ids=NASTY)
@pytest.mark.parametrize("max_length", [24, 11])
def test_a_nasty_text_is_cut_as_the_tokenizer_does(
    few_words: Any, text: str, max_length: int
) -> None:
    assert_same(few_words, [(text, "some words"), ("some words", text)], max_length)


def test_a_megabyte_without_a_space_has_the_tokenizers_ids(tokenizer: Any) -> None:
    assert_same(tokenizer, [("some words", "x" * 1_000_000)])


def test_nasty_texts_have_the_tokenizers_ids_beside_each_other(tokenizer: Any) -> None:
    small = [text for text in NASTY.values() if len(text) < 1_000]
    assert_same(tokenizer, list(itertools.product(small, small)), 41)


def test_every_character_has_the_tokenizers_ids_wherever_it_stands(tokenizer: Any) -> None:
    # All characters up to the scripts with one character for each word, the special ones at the
    # end, and a sample of the rest. Surrogates are left out.
    numbers = [*range(0x3400), *range(0x3400, 0xD800, 97), *range(0xF900, 0x10100)]
    numbers += range(0x10100, 0x110000, 499)
    characters = [chr(number) for number in numbers]
    rows = [characters[at : at + 64] for at in range(0, len(characters), 64)]
    spread = [" ".join(row) for row in rows]
    inside = ["".join(f"x{character} {character}y" for character in row) for row in rows]
    assert_same(tokenizer, list(zip(spread, inside, strict=True)))


@pytest.mark.parametrize(("seed", "max_length"), [(0, 512), (1, 31), (2, 17)])
def test_random_texts_have_the_tokenizers_ids(tokenizer: Any, seed: int, max_length: int) -> None:
    chance = random.Random(seed)
    pieces = [
        *" \t\n\u00a0\u3000\u200b\x1c\x00\u0301.,-'",
        *("  ", "[SEP]", "[MASK]", "日本", "é", "🙂", "ß", "##s", "the", "Running", "un", "x" * 60),
    ]

    def text() -> str:
        return "".join(chance.choice(pieces) for _ in range(chance.randint(0, 40)))

    assert_same(tokenizer, [(text(), text()) for _ in range(250)], max_length)


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"lowercase": False}, id="cased"),
        pytest.param({"strip_accents": True, "lowercase": False}, id="cased, without accents"),
        pytest.param({"strip_accents": False}, id="with accents"),
        pytest.param({"clean_text": False}, id="control characters are kept"),
        pytest.param({"handle_chinese_chars": False}, id="CJK is not split"),
    ],
)
def test_whatever_the_normaliser_does_ids_are_the_tokenizers(settings: dict[str, bool]) -> None:
    backend = tiny_models.bundled_tokenizer().backend_tokenizer
    backend.normalizer = normalizers.BertNormalizer(**settings)
    assert splits_at_spaces(backend)
    texts = [text for text in NASTY.values() if len(text) < 1_000]
    assert_same(tiny_models.in_pairs(backend), list(zip(texts, reversed(texts), strict=True)))


# Truncation


@pytest.mark.parametrize("max_length", range(3, 13))
def test_pairs_of_all_lengths_around_the_limit_are_cut_as_the_tokenizer_does(
    few_words: Any, max_length: int
) -> None:
    lengths = range(max_length + 3)
    pairs = [("a " * query, "b " * document) for query in lengths for document in lengths]
    assert_same(few_words, pairs, max_length)


@pytest.mark.parametrize("room", range(9))
def test_the_longer_text_is_cut_as_the_tokenizers_library_does(room: int) -> None:
    library = tiny_models.wordpiece(["a", "b"])
    library.enable_truncation(room, strategy="longest_first")
    for query, document in itertools.product(range(12), range(12)):
        of = library.encode("a " * query, "b " * document, add_special_tokens=False).type_ids
        assert longest_first(query, document, room) == (of.count(0), of.count(1))


@pytest.mark.parametrize("max_length", [16, 17, 511, 512])
@pytest.mark.parametrize("longer", [1, 2, 700])
def test_of_two_texts_that_are_each_too_long_the_longer_one_gets_the_odd_token(
    few_words: Any, max_length: int, longer: int
) -> None:
    short, long = "word " * (max_length + 1), "other " * (max_length + 1 + longer)
    assert_same(few_words, [(short, long), (long, short), (short, short)], max_length)


# Order and memory


def test_pairs_keep_their_order_and_texts_may_come_again(tokenizer: Any) -> None:
    texts = [f"package number {number}" for number in range(TEXTS_AT_ONCE + 50)]
    pairs = [(texts[number % 7], text) for number, text in enumerate(texts)]
    random.Random(3).shuffle(pairs)
    assert_same(tokenizer, [*pairs, *pairs[::-1], (texts[0], texts[0])])


def test_no_pairs_are_no_tokens(tokenizer: Any) -> None:
    made = PairTokenizer(tokenizer, 512)
    assert made.tokenize([]) == []
    assert len(made.columns([])) == 0


def made_up_words(number: int) -> str:
    """Return a text of words that no other number has; half of them are longer than is read."""
    names = [f"w{number}x{place}" for place in range(40)]
    return " ".join(f"{name} {name * 60}" for name in names)


def test_words_are_forgotten_before_they_fill_the_memory(tokenizer: Any) -> None:
    words = WordTokenizer(tokenizer.backend_tokenizer)
    texts = [made_up_words(number) for number in range(80)]
    assert sum(map(len, texts)) > 2 * REMEMBERED_CHARS
    held = []
    for text in texts:
        words.encode([text], 512, {})
        held.append(sum(map(len, words._known)))
    assert max(held) <= REMEMBERED_CHARS + max(map(len, texts))
    assert held != sorted(held)  # they were evicted at some time


def test_texts_are_forgotten_before_they_fill_the_memory(few_words: Any) -> None:
    made = PairTokenizer(few_words, 16, remembered_chars=40_000)
    texts = [f"{number} " + "x " * 2_500 for number in range(20)]
    held = []
    for text in texts:
        first = made.columns([("a query", text)])
        assert made.columns([("a query", text)]).documents == first.documents
        held.append(sum(map(len, made._remembered)))
    assert max(held) <= 40_000 + max(map(len, texts)) + len("a query")
    assert held != sorted(held)  # they were evicted at some time


def test_ids_are_still_right_after_words_were_forgotten(tokenizer: Any) -> None:
    pairs = [("a query", made_up_words(number)) for number in range(90)]
    half = [pairs[:45], pairs[45:]]
    assert all(sum(len(text) for _, text in some) > REMEMBERED_CHARS for some in half)
    made = PairTokenizer(tokenizer, 512)
    for some in (*half, *half):
        assert ours(tokenizer, some, made) == expected(tokenizer, some, 512)


def test_a_text_that_is_none_leaves_the_others_right(tokenizer: Any) -> None:
    made = PairTokenizer(tokenizer, 512)
    with pytest.raises(TypeError):
        made.tokenize([("first seen beside it", "a lone surrogate: \ud800")])
    pairs = [("first seen beside it", "a lone surrogate")]
    assert ours(tokenizer, pairs, made) == expected(tokenizer, pairs, 512)


# The model's own tokenizer


def test_the_models_tokenizer_is_left_as_it_was() -> None:
    tokenizer: Any = tiny_models.bundled_tokenizer()
    tokenizer(["a"], ["b"], truncation="longest_first", max_length=40, padding="max_length")
    before = tokenizer.backend_tokenizer.to_str()
    assert tokenizer.backend_tokenizer.truncation["max_length"] == 40
    assert tokenizer.backend_tokenizer.padding["length"] == 40
    PairTokenizer(tokenizer, 512).tokenize([(text, text) for text in NASTY.values()])
    assert tokenizer.backend_tokenizer.to_str() == before


def test_what_predict_sets_for_itself_does_not_reach_ours() -> None:
    # Given tokenizers made before and after the model cut and padded texts for itself
    encoder = CrossEncoder(str(bundled_path()), device="cpu")
    pairs = [("a query", text) for text in NASTY.values()]
    theirs = expected(tiny_models.bundled_tokenizer(), pairs, 512)
    before = PairTokenizer(encoder.tokenizer, 512)
    encoder.max_seq_length = 8
    encoder.predict([("a query", "a long document " * 9), ("a", "b")])
    after = PairTokenizer(encoder.tokenizer, 512)
    # Then both cut where they were told to
    assert ours(encoder.tokenizer, pairs, before) == theirs
    assert ours(encoder.tokenizer, pairs, after) == theirs


# Tokenizers for which a space does not end a word


def byte_level() -> Tokenizer:
    """Return a tokenizer like RoBERTa's: a space is part of the word after it."""
    letters = [*tiny_models.BERT_TOKENS, *pre_tokenizers.ByteLevel.alphabet(), "Ġa", "Ġb"]
    numbers = {letter: number for number, letter in enumerate(letters)}
    backend = Tokenizer(kinds.BPE(numbers, [("Ġ", "a"), ("Ġ", "b")]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return backend


def metaspace() -> Tokenizer:
    """Return a tokenizer like XLM-RoBERTa's: a space is a character, and a text begins with one."""
    pieces = [*tiny_models.BERT_TOKENS, "▁", "▁a", "a", "b", "▁b", "▁a▁b"]
    backend = Tokenizer(kinds.Unigram([(piece, -len(piece)) for piece in pieces], 1))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(split=False)
    return backend


def whole_texts() -> Tokenizer:
    """Return a tokenizer for which a text is a word."""
    texts = [*tiny_models.BERT_TOKENS, "a", "b", "a b", "b a"]
    numbers = {text: number for number, text in enumerate(texts)}
    return Tokenizer(kinds.WordLevel(numbers, "[UNK]"))


def splits_at_punctuation() -> Tokenizer:
    """Return a tokenizer with spaces inside words."""
    backend = tiny_models.wordpiece(["a", "b"])
    backend.pre_tokenizer = pre_tokenizers.Punctuation()
    return backend


def drops_spaces() -> Tokenizer:
    backend = tiny_models.wordpiece(["a", "##b", "b", "##a"])
    backend.normalizer = normalizers.Replace(" ", "")
    return backend


def with_token(content: str, **settings: bool) -> Callable[[], Tokenizer]:
    def make() -> Tokenizer:
        backend = tiny_models.wordpiece(["a", "b", "new", "york"])
        backend.add_tokens([AddedToken(content, **settings)])
        return backend

    return make


#: Texts whose spaces matter to one of the tokenizers below.
SPACED = ["", " ", "a", "a b", " a  b", "a b a b ", "b a", "new york", "a new york b", "new  york"]


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(byte_level, id="bytes"),
        pytest.param(metaspace, id="spaces are characters"),
        pytest.param(whole_texts, id="whole texts"),
        pytest.param(splits_at_punctuation, id="words with spaces"),
        pytest.param(drops_spaces, id="spaces are nothing"),
        pytest.param(with_token("new york"), id="a token with a space"),
        pytest.param(with_token("york", lstrip=True), id="a token that takes spaces before it"),
        pytest.param(with_token("new", rstrip=True), id="a token that takes spaces after it"),
        pytest.param(with_token("new\tyork", normalized=True), id="a token with a tab"),
        pytest.param(with_token("new\u00a0york", normalized=True), id="a token with another space"),
    ],
)
def test_a_tokenizer_to_which_a_space_is_no_end_is_not_taken_for_one(
    make: Callable[[], Tokenizer],
) -> None:
    assert not splits_at_spaces(make())
    pairs = list(itertools.product(SPACED, SPACED))
    assert_same(tiny_models.in_pairs(make()), pairs)
    assert_same(tiny_models.in_pairs(make()), pairs, 5)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(tiny_models.wordpiece, id="no words"),
        pytest.param(with_token("newyork"), id="a token"),
        pytest.param(with_token("york", single_word=True), id="a token that is a whole word"),
        pytest.param(with_token("日", normalized=True), id="a token that is set off by spaces"),
    ],
)
def test_one_of_words_is_taken_for_one(make: Callable[[], Tokenizer]) -> None:
    assert splits_at_spaces(make())
    texts = [*SPACED, "newyork", "a newyorkb", "york.new", "newyork york", "日a 日本 日日"]
    assert_same(tiny_models.in_pairs(make()), list(itertools.product(texts, texts)))


def test_the_tokenizers_of_known_models_are_told_apart(tmp_path: Path) -> None:
    roberta: Any = CrossEncoder(tiny_models.roberta(tmp_path), device="cpu").tokenizer
    assert splits_at_spaces(tiny_models.bundled_tokenizer().backend_tokenizer)
    assert not splits_at_spaces(roberta.backend_tokenizer)
