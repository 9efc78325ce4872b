"""Names of the users that are wanted, and no others'."""

import time

import numpy as np
from dumps import row, write_site

from limakit.sources.packed import pack
from limakit.sources.users import index_users


def test_the_names_of_those_who_are_wanted(tmp_path):
    users = [
        row(Id=-1, DisplayName="Community"),
        row(Id=3, DisplayName=" Ann "),
        row(Id=4, DisplayName="Bob"),
        row(Id="x", DisplayName="?"),
    ]
    odd = [row(DisplayName="Cy", Id=7), row(DisplayName="Di", Id=8), row(Id=9, DisplayName="")]
    path = write_site(tmp_path, "s", [*users, *odd], tag="users")
    found = index_users(path, None, 0, None, pack([np.array([-1, 3, 7, 9, 11])]))
    assert found.to_pylist() == [{"id": -1, "name": "Community"}, {"id": 3, "name": "Ann"}, {"id": 7, "name": "Cy"}]


def test_many_wanted_users_cost_little(tmp_path):
    """300,000 wanted, whom the file lacks or has in another writing of the rows: no time that grows with both."""
    path = write_site(tmp_path, "s", [row(DisplayName=f"user {i}", Id=i) for i in range(0, 40_000, 2)], tag="users")
    few, many = pack([np.arange(10)]), pack([np.arange(300_000) * 75 + 1])
    seconds = []
    for wanted in (few, many):
        began = time.process_time()
        index_users(path, None, 0, None, wanted)
        seconds.append(time.process_time() - began)
    assert seconds[1] < 2 * seconds[0] + 0.5, seconds
