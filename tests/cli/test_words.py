from tuner.cli import words


def test_numbers_have_4_significant_digits_and_line_up():
    values = [0.98, 0.9722, 1.0, 123.456, 1234.5, 12345.6, 1.5e-5, 3.25e12, 0.0, 7, None, float("nan")]
    shown = ["0.9800", "0.9722", "1.000", "123.5", "1234", "12346", "1.5e-5", "3.25e12", "0.000", "7", "-", "nan"]
    assert [words.number(value) for value in values] == shown


def test_config_values_are_short_toml():
    values = [0.1, 1e-5, 0.00354203, 64, True, "sgd", [32, 64], [[1, 0.1], [5, 0.01]], None, 1.0, 20000.0]
    shown = ["0.1", "1e-5", "0.003542", "64", "true", "sgd", "[32, 64]", "[[1, 0.1], [5, 0.01]]", "-", "1", "20000"]
    assert [words.value(value) for value in values] == shown


def test_durations_have_two_units_at_most():
    seconds = [0.04, 4, 52, 60, 192, 3600, 7500, 90000, 259200]
    shown = ["0.0 s", "4 s", "52 s", "1 min", "3 min 12 s", "1 h", "2 h 5 min", "1 d 1 h", "3 d"]
    assert [words.duration(value) for value in seconds] == shown


def test_states_come_in_one_order():
    assert words.states({"failed": 1, "completed": 21, "stopped": 2}) == "21 completed, 2 stopped, 1 failed"


def test_a_cut_text_is_one_line():
    assert words.cut("one\n two three", 9) == "one two…"
    assert words.cut("one\ntwo", 9) == "one two"


def test_counts_agree_with_their_noun():
    assert (words.count(1, "trial"), words.count(24, "trial")) == ("1 trial", "24 trials")


def test_the_best_of_many_is_optimistic():
    assert words.best_of(24) == "best of 24, so optimistic"
    # Nothing was chosen, so nothing is flattered.
    assert "optimistic" not in words.best_of(1)


def test_rates():
    assert [words.rate(value) for value in (0.0312, 1.0, 9.96, 12.4, 120.0)] == ["0.031", "1.0", "10", "12", "120"]
