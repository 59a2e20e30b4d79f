from __future__ import annotations

import contextlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflowd.config.units import LONGEST, Size, format_span, parse_span


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("20s", 20.0),
        ("5min", 300.0),
        ("1min 30s", 90.0),
        ("1min30s", 90.0),
        ("100ms", 0.1),
        ("20", 20.0),
        ("0.5", 0.5),
        ("2 h", 7200.0),
        ("2hours", 7200.0),
        ("48hr", 172800.0),
        ("55s500ms", 55.5),
        ("300ms20s 5day", 432020.3),
        ("3us", 0.000003),
        ("0", 0.0),
    ],
)
def test_time_spans_read_as_in_systemd_time_7(text: str, seconds: float) -> None:
    assert parse_span(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "-1s", "1e3", "20 parsecs", "1.5.5s", "5 min,", "infinity", "٣s", "1:30"])
def test_what_is_no_time_span_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a"):
        parse_span(text)


def test_an_unknown_unit_is_named_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'parsecs' is not a unit of time .*min"):
        parse_span("3 parsecs")


@pytest.mark.parametrize("text", ["2y", "9" * 400 + "s"])
def test_a_span_of_more_than_a_year_is_a_slip(text: str) -> None:
    with pytest.raises(ValueError, match="longer than a year"):
        parse_span(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (90.0, "1min 30s"),
        (0.1, "100ms"),
        (60.0, "1min"),
        (900.0, "15min"),
        (0.0, "0s"),
        (90061.5, "1d 1h 1min 1s 500ms"),
    ],
)
def test_time_spans_are_shown_as_systemd_shows_them(seconds: float, text: str) -> None:
    assert format_span(seconds) == text


@given(st.integers(min_value=0, max_value=int(LONGEST * 1e6)))
def test_a_shown_span_reads_back_as_itself(microseconds: int) -> None:
    seconds = round(microseconds / 1e6, 6)
    assert parse_span(format_span(seconds)) == pytest.approx(seconds, abs=5e-7)


@given(st.text())
def test_any_text_is_a_span_or_a_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert 0 <= parse_span(text) <= LONGEST


@pytest.mark.parametrize("text", ["1" * 50_000 + "!", "1 " * 5_000 + "!", "." * 50_000])
def test_a_long_wrong_span_is_refused_at_once(text: str) -> None:
    start = time.process_time()
    with pytest.raises(ValueError, match=r"."):
        parse_span(text)
    assert time.process_time() - start < 1


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4G", Size(bytes=4 * 2**30)),
        ("512M", Size(bytes=512 * 2**20)),
        ("1.5G", Size(bytes=1536 * 2**20)),
        ("1048576", Size(bytes=1048576)),
        ("1024B", Size(bytes=1024)),
        ("10%", Size(percent=10.0)),
        ("7.5%", Size(percent=7.5)),
    ],
)
def test_sizes_read_as_in_systemd(text: str, size: Size) -> None:
    assert Size.parse(text) == size


@pytest.mark.parametrize("text", ["", "4GB", "G", "-1M", "10 %%", "1e9", "101%", "8193T", "4g"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a size|more than 100%|larger than"):
        Size.parse(text)


def test_a_percentage_is_of_a_total() -> None:
    assert Size.parse("75%").of(1000) == 750
    assert Size.parse("4K").of(1000) == 4096


@pytest.mark.parametrize("text", ["4G", "1536M", "100M", "10%", "7.5%", "1T", "1000", "0", "1025"])
def test_a_size_is_shown_as_it_is_written(text: str) -> None:
    assert str(Size.parse(text)) == text


@given(st.integers(min_value=0, max_value=2**53))
def test_a_shown_size_reads_back_as_itself(count: int) -> None:
    assert Size.parse(str(Size(bytes=count))) == Size(bytes=count)
