"""The bar of what takes long: not there at once, gone afterwards, silent where nobody looks."""

import time

import pytest

from arithlab.training import waiting


@pytest.fixture(autouse=True)
def loud(monkeypatch):
    monkeypatch.delenv("ARITHLAB_QUIET", raising=False)


def slowly(items, seconds=0.15):
    for item in waiting.waiting(items, "counting"):
        time.sleep(seconds)
        yield item


def test_what_is_quick_shows_no_bar(capsys):
    assert list(slowly([1, 2, 3], 0)) == [1, 2, 3]
    assert "counting" not in capsys.readouterr().err


def test_what_is_slow_shows_a_bar_with_the_time_left_and_takes_it_away(capsys, monkeypatch):
    monkeypatch.setattr(waiting, "SECONDS", 0.1)
    assert list(slowly(range(4))) == [0, 1, 2, 3]
    shown = capsys.readouterr().err
    assert "counting:" in shown
    assert "<" in shown  # elapsed < left
    assert shown.rstrip(" ").endswith("\r")


def test_headless_nothing_is_shown(capsys, monkeypatch):
    monkeypatch.setattr(waiting, "SECONDS", 0.0)
    monkeypatch.setenv("ARITHLAB_QUIET", "1")
    assert list(slowly([1, 2])) == [1, 2]
    assert capsys.readouterr().err == ""


def test_inside_a_bar_there_is_no_other(capsys, monkeypatch):
    monkeypatch.setattr(waiting, "SECONDS", 0.0)
    assert [list(waiting.waiting("ab", "inner")) for _ in waiting.waiting([1, 2], "outer")] == [["a", "b"]] * 2
    shown = capsys.readouterr().err
    assert "outer" in shown
    assert "inner" not in shown


def test_a_bar_that_was_left_early_hides_no_other(capsys, monkeypatch):
    monkeypatch.setattr(waiting, "SECONDS", 0.0)
    left = waiting.waiting([1, 2], "stopped")
    assert next(left) == 1
    left.close()
    assert list(waiting.waiting([1], "next")) == [1]
    assert "next" in capsys.readouterr().err
