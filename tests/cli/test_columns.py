from rich.cells import cell_len

from tuner.cli.columns import WIDEST, Column, lay_out


def columns(count: int, rows: int = 3) -> list[Column]:
    names = [f"a_rather_long_parameter_{index}" for index in range(count)]
    return [Column("trial", [f"t{row:04d}" for row in range(rows)], keep=True)] + [
        Column(name, ["0.1234"] * rows, right=True) for name in names
    ]


def test_what_fits_is_left_as_it_is():
    layout = lay_out([Column("name", ["a", "bb"]), Column("value", ["1", "22"], right=True)], width=80)
    assert [line.plain for line in layout.lines] == ["name  value", "a         1", "bb       22"]


def test_headers_are_stacked_before_anything_is_left_out():
    layout = lay_out(columns(4), width=80)
    assert layout.left_out == []
    # The header takes more lines, the rows one each.
    assert len(layout.lines) > 4
    assert max(cell_len(line.plain) for line in layout.lines) <= 80


def test_columns_that_do_not_fit_are_named():
    layout = lay_out(columns(20), width=80)
    assert layout.left_out and layout.left_out[0] == "a_rather_long_parameter_19"
    assert max(cell_len(line.plain) for line in layout.lines) <= 80


def test_the_lightest_columns_are_left_out_first():
    light, heavy = Column("light", ["0"] * 3, weight=1), Column("heavy", ["0"] * 3, weight=9)
    assert lay_out([heavy, light, light], width=13).left_out == ["light"]
    assert lay_out([light, heavy], width=5).left_out == ["light"]


def test_kept_columns_stay_however_narrow_the_terminal():
    layout = lay_out(columns(3), width=4)
    assert [line.plain for line in layout.lines] == ["trial", "t0000", "t0001", "t0002"]


def test_one_long_value_is_cut():
    layout = lay_out([Column("schedule", ["x" * 200])], width=80)
    assert layout.lines[-1].plain == "x" * (WIDEST - 1) + "…"


def test_wide_characters_count_double():
    layout = lay_out([Column("name", ["日本", "ab"]), Column("n", ["1", "2"])], width=80)
    assert [line.plain for line in layout.lines] == ["name  n", "日本  1", "ab    2"]


def test_no_rows():
    assert [line.plain for line in lay_out([Column("run", [])], width=80).lines] == ["run"]
