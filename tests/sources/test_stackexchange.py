"""What a post's attributes say: whom to credit, under which licence, with which tags."""

import pytest
from dumps import row, write_site

from limakit.sources.communities import site_of
from limakit.sources.packed import pack, unpack
from limakit.sources.stackexchange import author_of, licence_of, tags_of
from limakit.sources.users import index_users

BEER = site_of("beer")


@pytest.mark.parametrize(
    ("attributes", "name", "url"),
    [
        ({"OwnerUserId": "5"}, "user 5", "https://beer.stackexchange.com/users/5"),
        ({"OwnerUserId": "5", "OwnerDisplayName": "Ann"}, "Ann", "https://beer.stackexchange.com/users/5"),
        ({"OwnerDisplayName": "user99"}, "user99", None),
        ({"OwnerUserId": "-1"}, "Community", "https://beer.stackexchange.com/users/-1"),
        ({}, "a deleted account", None),
    ],
)
def test_authors(attributes, name, url):
    author = author_of(attributes, BEER, "answer")
    assert (author.name, author.url, author.wrote) == (name, url, "answer")


@pytest.mark.parametrize(
    ("attributes", "licence"),
    [
        ({"ContentLicense": "CC BY-SA 2.5", "CreationDate": "2020-01-01T00:00:00"}, "CC BY-SA 2.5"),
        ({"CreationDate": "2011-04-07T23:59:59.999"}, "CC BY-SA 2.5"),
        ({"CreationDate": "2011-04-08T00:00:00.000"}, "CC BY-SA 3.0"),
        ({"CreationDate": "2018-05-01T23:59:59.999"}, "CC BY-SA 3.0"),
        ({"CreationDate": "2018-05-02T00:00:00.000"}, "CC BY-SA 4.0"),
        ({}, "CC BY-SA, version unknown"),
    ],
)
def test_licences(attributes, licence):
    assert licence_of(attributes) == licence


def test_tags_in_both_forms():
    assert tags_of({"Tags": "<c++><ale>"}) == tags_of({"Tags": "|c++|ale|"}) == ("c++", "ale")
    assert tags_of({}) == tags_of({"Tags": ""}) == ()


def names(path, users):
    table = index_users(path, None, 0, None, pack([sorted(users)]))
    return dict(zip(table["id"].to_pylist(), table["name"].to_pylist(), strict=True))


def test_names_from_users_xml(tmp_path):
    rows = [
        row(Id=-1, DisplayName="Community"),
        row(Id=3, DisplayName=" Zoë "),
        row(Id=4),
        "  <row Id='5' DisplayName='&nbsp;'/>",
        row(Id=6, DisplayName="No"),
    ]
    path = write_site(tmp_path, "s", [*rows, "  <row DisplayName='seven' Id='7'/>", row(Id="x", DisplayName="No")], tag="users")
    assert names(path, {-1, 3, 4, 5, 7}) == {-1: "Community", 3: "Zoë", 7: "seven"}  # one that is damaged names nobody


@pytest.mark.parametrize("columns", [[[]], [[5]], [[1, 2, 10**15], [7, 0, -9]], [[2**62, -(2**62), 0]]])
def test_packed_numbers_come_out_as_they_went_in(columns):
    assert unpack(pack(columns), len(columns)).tolist() == columns
