from __future__ import annotations

import struct
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflowd.engine.streams import frames, lines

STAMP = b"2026-11-20T14:52:10.133019011Z "


def frame(number: int, data: bytes) -> bytes:
    return struct.pack(">BxxxL", number, len(data)) + data


def read(*sent: bytes) -> list[bytes]:
    return list(lines(frames(BytesIO(b"".join(sent)).read)))


def test_a_frame_is_a_line_without_its_end() -> None:
    assert read(frame(1, STAMP + b"one\n"), frame(2, STAMP + b"two\n")) == [STAMP + b"one", STAMP + b"two"]


def test_a_carriage_return_belongs_to_the_line_end() -> None:
    assert read(frame(1, STAMP + b"a\rb\r\n")) == [STAMP + b"a\rb"]


def test_a_line_in_several_frames_keeps_the_first_stamp_alone() -> None:
    sent = [frame(1, STAMP + b"a" * 16384), frame(1, STAMP + b"b" * 16384), frame(1, STAMP + b"c\n")]
    assert read(*sent) == [STAMP + b"a" * 16384 + b"b" * 16384 + b"c"]


def test_a_line_in_several_frames_without_stamps_is_one_line() -> None:
    assert read(frame(1, STAMP + b"a"), frame(1, b"b\n")) == [STAMP + b"ab"]


def test_interleaved_outputs_do_not_mix() -> None:
    sent = [frame(1, STAMP + b"o1"), frame(2, STAMP + b"e1"), frame(1, STAMP + b"o2\n"), frame(2, STAMP + b"e2\n")]
    assert read(*sent) == [STAMP + b"o1o2", STAMP + b"e1e2"]


def test_several_lines_in_a_frame_are_several_lines() -> None:
    assert read(frame(1, STAMP + b"a\n\nb\n")) == [STAMP + b"a", b"", b"b"]


def test_what_is_no_utf8_stays_as_it_is() -> None:
    assert read(frame(1, STAMP + b"\xff\x00\xfe\n")) == [STAMP + b"\xff\x00\xfe"]


def test_the_rest_is_given_when_the_stream_is_cut() -> None:
    assert read(frame(1, STAMP + b"whole\n"), frame(1, STAMP + b"cut off")[:-3]) == [STAMP + b"whole", STAMP + b"cut "]
    assert read(frame(1, STAMP + b"whole\n"), b"\1\0\0") == [STAMP + b"whole"]


def test_a_line_without_end_is_given_in_pieces_of_bounded_size() -> None:
    pieces = read(*[frame(1, STAMP + b"x" * 16384)] * 1000)
    assert max(len(piece) for piece in pieces) <= (1 << 20) + 16384
    assert sum(piece.count(b"x") for piece in pieces) == 16384 * 1000


@given(st.lists(st.tuples(st.sampled_from((1, 2)), st.binary(max_size=40).filter(lambda b: b"\n" not in b))))
def test_every_line_arrives_once_and_in_order(said: list[tuple[int, bytes]]) -> None:
    sent = [frame(number, STAMP + text + b"\n") for number, text in said]
    assert read(*sent) == [(STAMP + text).removesuffix(b"\r") for _, text in said]


@pytest.mark.parametrize("text", [b"2026-11-20T14:52:10Z is a date", b"2026"])
def test_text_that_looks_like_a_stamp_survives_in_a_continued_line(text: bytes) -> None:
    assert read(frame(1, STAMP + b"x"), frame(1, STAMP + text + b"\n")) == [STAMP + b"x" + text]
