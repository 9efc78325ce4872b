"""Further judges: [judge] with some keys changed, each checked as the judge it makes."""

import pytest

from limakit.errors import UsageError
from limakit.recipe import read_recipe

HEAD = 'name = "x"\n[model]\nbase = "b"\n[judge]\nmodel = "org/one"\nname = "first"\ndraws = 3\ngrade = "absolute"\n'


def read(folder, also):
    path = folder / "lima.toml"
    path.write_text(HEAD + also)
    return read_recipe(path).judge


def test_a_further_judge_is_the_first_but_for_its_keys(tmp_path):
    judge = read(
        tmp_path,
        '[[judge.also]]\nmodel = "org/two"\n[[judge.also]]\nname = "warm"\ntemperature = 1\n[[judge.also]]\nkind = "oracle"\nmodel = ""\n',
    )
    first, two, warm, oracle = judge.panel
    assert first is judge
    assert [spec.called for spec in judge.panel] == ["first", "org/two", "warm", "oracle"]
    assert (two.draws, two.grade, two.also) == (3, ["absolute"], [])
    assert (warm.model, warm.temperature, warm.draws) == ("org/one", 1.0, 3)
    assert oracle.kind == "oracle"


@pytest.mark.parametrize(
    ("also", "said"),
    [
        ('model = "t"\ntemprature = 1.0', r"lima.toml, line 11: judge.also\[0\].temprature: unknown key \(did you mean 'temperature'\?\)"),
        ('model = "t"\ndraws = 0', r"line 11: judge.also\[0\].draws: .*greater than 0"),
        ('model = ""', r"judge.also\[0\]: model: name the judge's model"),
        ('model = "t"\nmax_cost = 1.0', r"judge.also\[0\]: max_cost needs price_in"),
        ('name = "first"\nmodel = "t"', r"line 10: judge.also\[0\].name: two judges are called 'first'"),
        ('model = "t/u"\n[[judge.also]]\nname = "t--u"', r"line 12: judge.also\[1\].name: two judges are called 't--u'"),
        ('model = "t"\nalso = []', r"judge.also\[0\].also: a further judge has none of its own"),
        ('model = "t"\n[[judge.also]]\nmodel = 5', r"line 12: judge.also\[1\].model: .*string"),
    ],
)
def test_what_is_wrong_with_one_is_named(tmp_path, also, said):
    with pytest.raises(UsageError, match=said):
        read(tmp_path, f"[[judge.also]]\n{also}\n")
