"""RecBole's own converted data sets, each from a tiny file of its shape: fields as its conversion tools name them, rows made up."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from laserrec.data.options import ReadOptions
from laserrec.data.sources import read_source


@dataclass(frozen=True)
class Shape:
    """Fields and two rows of .inter and .item, and what they mean."""

    inter: str
    rows: tuple[str, str]
    columns: tuple[str, str, str]
    item: str = ""
    item_row: str = ""
    title: str | None = None
    attributes: tuple[str, ...] = ()


T = "timestamp:float"
RATED = f"user_id:token\titem_id:token\trating:float\t{T}"
SHAPES = {
    "ml-10m": Shape(
        RATED, ("1\ti\t5\t100", "1\tj\t3\t90"), ("user_id", "item_id", "timestamp"),
        "item_id:token\tmovie_name:token_seq\ttype:token_seq", "i\tHeat (1995)\tCrime Drama", "Heat (1995)", ("type",),
    ),
    "ml-20m": Shape(
        RATED, ("1\ti\t3.5\t100", "1\tj\t3\t90"), ("user_id", "item_id", "timestamp"),
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tgenre:token_seq", "i\tHeat\t1995\tCrime", "Heat",
        ("release_year", "genre"),
    ),
    "steam": Shape(
        f"user_id:token\tplay_hours:float\tproducts:token\tproduct_id:token\tpage_order:float\t{T}\tearly_access:bool\tpage:float\t"
        "found_funny:string\tcompensation:string",
        ("1\t7.5\t20\ti\t0\t100\tFalse\t1\t\t", "1\t0.1\t20\tj\t1\t90\tTrue\t1\t2\t"), ("user_id", "product_id", "timestamp"),
        "app_name:token\tdeveloper:token\tearly_access:bool\tgenres:token_seq\tid:token\tmetascore:float\tprice:float\tpublisher:token\t"
        "timestamp:float\tsentiment:token\tspecs:token_seq\ttags:token_seq\ttitle:token",
        "Ricochet\tValve\tFalse\tAction\ti\t\t4.99\tValve\t973123200\tMixed\tPvP\tFPS\tRicochet", "Ricochet",
        ("app_name", "developer", "early_access", "genres", "metascore", "price", "publisher", "timestamp_", "sentiment", "specs", "tags"),
    ),
    "yelp": Shape(
        "review_id:token\tuser_id:token\tbusiness_id:token\tstars:float\tuseful:float\tfunny:float\tcool:float\tdate:float",
        ("r\t1\ti\t5\t0\t0\t0\t100", "s\t1\tj\t3\t0\t0\t0\t90"), ("user_id", "business_id", "date"),
        "business_id:token\titem_name:token_seq\taddress:token_seq\tcity:token_seq\tstate:token\tpostal_code:token\tlatitude:float\t"
        "longitude:float\titem_stars:float\titem_review_count:float\tis_open:float\tcategories:token_seq",
        "i\tJoe's Diner\t1 High St\tAda\tOH\t45810\t40.7\t-83.8\t4.5\t12\t1\tDiners", "Joe's Diner",
        ("address", "city", "state", "postal_code", "latitude", "longitude", "item_stars", "item_review_count", "is_open", "categories"),
    ),
    "lastfm": Shape(
        "user_id:token\tartist_id:token\tweight:float\ttag_value:token_seq", ("1\tj\t5\tpop", "1\ti\t3\trock"),
        ("user_id", "artist_id", "order of the file"),
        "artist_id:token\tname:token\turl:token\tpicture_url:token", "i\tMalice Mizer\thttp://a\thttp://b", "Malice Mizer",
        ("url", "picture_url"),
    ),
    "lfm1b-tracks": Shape(
        f"user_id:token\ttracks_id:token\t{T}\tnum_repeat:float", ("1\ti\t100\t2", "1\tj\t90\t1"), ("user_id", "tracks_id", "timestamp"),
        "tracks_id:token\tname:token_seq\tartists_id:token", "i\tHurt\t7", "Hurt", ("artists_id",),
    ),
    "yoochoose-clicks": Shape(
        f"session_id:token\titem_id:token\t{T}\tcategory:token\tcount:float", ("1\ti\t100\t0\t1", "1\tj\t90\t0\t1"),
        ("session_id", "item_id", "timestamp"),
    ),
    "yoochoose-buys": Shape(
        f"session_id:token\t{T}\titem_id:token\tprice:float\tquantity:float", ("1\t100\ti\t9\t1", "1\t90\tj\t9\t1"),
        ("session_id", "item_id", "timestamp"),
    ),
    "retailrocket-view": Shape(
        f"{T}\tvisitor_id:token\titem_id:token\tcount:float", ("100\t1\ti\t2", "90\t1\tj\t1"), ("visitor_id", "item_id", "timestamp"),
        "item_timestamp:float\titem_id:token\tproperty:token\tvalue:token_seq", "5\ti\tcategoryid\t1338", None,
        ("item_timestamp", "property", "value"),
    ),
    "ta-feng": Shape(
        f"{T}\tuser_id:token\tage_group:token\tpin_code:token\tproduct_subclass:token\titem_id:token\tamount:float\tasset:float\tsales_price:float",
        ("100\t1\tA\tB\t5\ti\t1\t2\t3", "90\t1\tA\tB\t5\tj\t1\t2\t3"), ("user_id", "item_id", "timestamp"),
    ),
    "book-crossing": Shape(
        "user_id:token\titem_id:token\trating:float", ("1\tj\t0", "1\ti\t5"), ("user_id", "item_id", "order of the file"),
        "item_id:token\tbook_title:token_seq\tbook_author:token_seq\tpublication_year:float\tpublisher:token_seq",
        "i\tDecision in Normandy\tCarlo D'Este\t1991.0\tHarper", "Decision in Normandy", ("book_author", "publication_year", "publisher"),
    ),
    "Amazon_Beauty": Shape(
        RATED, ("1\ti\t5\t100", "1\tj\t3\t90"), ("user_id", "item_id", "timestamp"),
        "item_id:token\ttitle:token\tsales_type:token\tsales_rank:float\tcategories:token_seq\tprice:float\tbrand:token",
        "i\tLipstick &amp; Gloss\tBeauty\t12.0\t'Beauty', 'Makeup'\t\tElf", "Lipstick & Gloss",
        ("sales_type", "sales_rank", "categories", "price", "brand"),
    ),
    "foursquare_NYC": Shape(
        "user_id:token\tvenue_id:token\tvenue_category_id:token\tvenue_category_name:str\tlatitude:float\tlongitude:float\t"
        "timezone_offset:float\ttimestamp:str\tclick_times:float",
        ("1\ti\tc\tBar\t1\t2\t-240\t100\t1", "1\tj\tc\tBar\t1\t2\t-240\t90\t1"), ("user_id", "venue_id", "timestamp"),
    ),
    "diginetica": Shape(
        f"session_id:token\titem_id:token\t{T}\tnumber_of_times:float", ("1\ti\t100\t1", "1\tj\t90\t1"),
        ("session_id", "item_id", "timestamp"),
    ),
    "anime": Shape(
        "user_id:token\titem_id:token\trating:float", ("1\tj\t-1", "1\ti\t9"), ("user_id", "item_id", "order of the file"),
        "item_id:token\tname:token_seq\tgenre:token_seq\ttype:token\tepisodes:float\tavg_rating:float\tmembers:float",
        "i\tKimi no Na wa.\tDrama\tMovie\t1.0\t9.37\t200630.0", "Kimi no Na wa.", ("genre", "type", "episodes", "avg_rating", "members"),
    ),
    "mind": Shape(
        f"user_id:token\titem_id:token\tlabel:float\t{T}", ("1\ti\t1\t100", "1\tj\t0\t90"), ("user_id", "item_id", "timestamp"),
        "item_id:token\tcategory:token\tsub_category:token\ttitle:token_seq\tabstract:token_seq", "i\tnews\tus\t\"Five\" hosts\tThey talk",
        '"Five" hosts', ("category", "sub_category", "abstract"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_a_converted_data_set_is_read_by_its_fields(name: str, tmp_path: Path) -> None:
    shape = SHAPES[name]
    (tmp_path / f"{name}.inter").write_text("\n".join([shape.inter, *shape.rows]) + "\n")
    if shape.item:
        (tmp_path / f"{name}.item").write_text(f"{shape.item}\n{shape.item_row}\n{shape.item_row.replace('i', 'k', 1)}\n")
    raw = read_source(tmp_path, None, ReadOptions())
    assert (raw.format, raw.problems) == ("recbole", ())
    assert tuple(raw.columns[role] for role in ("user", "item", "time")) == shape.columns
    assert raw.interactions.sort("timestamp").select("user_id", "item_id").rows() == [("1", "j"), ("1", "i")]
    used = {*shape.columns}
    fields = [field.split(":")[0] for field in shape.inter.split("\t")]
    assert raw.ignored.get(f"{name}.inter", ()) == tuple(field for field in fields if field not in used)
    assert raw.rows == (4 if shape.item else 2)
    if shape.item:
        assert raw.items.columns == ["item_id", "title", *shape.attributes]
        assert "i" in raw.items["item_id"].to_list()
        assert raw.items["title"][0] == shape.title
    if shape.columns[2] == "order of the file":
        assert any("no column says when" in note for note in raw.notes)


def test_rows_that_have_an_earlier_items_id_are_counted(tmp_path: Path) -> None:
    (tmp_path / "r.inter").write_text("timestamp:float\tvisitor_id:token\titem_id:token\n1\tu\ti\n")
    rows = "".join(f"{n}\ti\t{n}\tv\n" for n in range(5))
    (tmp_path / "r.item").write_text("item_timestamp:float\titem_id:token\tproperty:token\tvalue:token_seq\n" + rows)
    raw = read_source(tmp_path, None, ReadOptions())
    assert (raw.items.height, raw.rows, raw.problems) == (1, 6, ())
    assert "r.item: 4 rows whose item id occurred before were left out; the first of each stays" in raw.notes


def test_columns_may_be_named_and_events_kept(tmp_path: Path) -> None:
    rows = "u\ta\tx\t5\t3\nu\tb\ty\t2\t2\nu\tc\tz\t4\t1\nNA\td\tz\t4\t1\n"
    (tmp_path / "r.inter").write_text("user_id:token\titem_id:token\tshop_id:token\trating:float\tday_no:float\n" + rows)
    raw = read_source(tmp_path, None, ReadOptions(item="shop_id", time="day_no", min_rating=4.0))
    assert raw.interactions.sort("timestamp")["item_id"].to_list() == ["z", "x"]
    assert (raw.left_out, [str(bad) for bad in raw.problems]) == (1, ["r.inter:5: the user id is 'NA', which stands for a missing value"])


def test_three_parts_keep_their_split_whatever_the_fields_are_called(tmp_path: Path) -> None:
    for split, row in (("train", "u\ta\n u\tb\nNULL\ta"), ("valid", "u\tc"), ("test", "u\td")):
        (tmp_path / f"s.{split}.inter").write_text(f"session_id:token\tbusiness_id:token\n{row}\n")
    raw = read_source(tmp_path, None, ReadOptions())
    assert raw.own_split
    assert raw.interactions.sort("timestamp").select("item_id", "split").rows() == [
        ("a", "train"),
        ("b", "train"),
        ("c", "valid"),
        ("d", "test"),
    ]
    assert [str(bad) for bad in raw.problems] == ["s.train.inter:4: the user id is 'NULL', which stands for a missing value"]
