"""Files that are read back: checksums, sizes, and errors that name the file."""

import json
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest
import torch
from safetensors.torch import save_file

from asg_env.files import BadFile, check_finite, check_like, read_tensors, write_tensors
from asg_env.ranges import whole
from asg_env.sealed import line_of, parse_json, read_lines, read_object, sealed, write_object
from asg_env.typed import from_fields

TENSORS = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor(3), "c": torch.ones(2).bfloat16()}


def test_tensors_survive_and_equal_content_has_equal_bytes(tmp_path):
    notes = {str(k): "x" for k in range(9)}
    for name in ("one", "two"):
        write_tensors(tmp_path / name, TENSORS, notes)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    found, metadata = read_tensors(tmp_path / "one")
    assert metadata == notes
    assert all(torch.equal(found[k], v) and found[k].dtype == v.dtype for k, v in TENSORS.items())


def test_every_flipped_bit_of_the_tensors_is_noticed(tmp_path):
    path = tmp_path / "t.safetensors"
    write_tensors(path, TENSORS, {"note": "x"})
    content = path.read_bytes()
    for k in range(8 + int.from_bytes(content[:8], "little"), len(content)):
        path.write_bytes(content[:k] + bytes([content[k] ^ 4]) + content[k + 1 :])
        with pytest.raises(BadFile, match=r"t\.safetensors.*restore the file, or delete it"):
            read_tensors(path)


def test_a_file_without_a_checksum_still_opens(tmp_path):
    save_file(TENSORS, tmp_path / "t", {"note": "x"})
    assert read_tensors(tmp_path / "t")[1] == {"note": "x"}


def test_foreign_tensors_are_looked_at():
    check_like(TENSORS, {k: v.to("meta") for k, v in TENSORS.items()}, "f")
    check_like({"a": torch.ones(2).half()}, {"a": torch.ones(2)}, "f")
    for found, message in (
        ({"a": torch.ones(2, dtype=torch.int8)}, "f: a holds torch.int8"),
        ({"a": torch.ones(3)}, "f: a has shape"),
        ({}, "missing a"),
        ({"a": torch.ones(2), "b": torch.ones(2)}, "unknown b"),
    ):
        with pytest.raises(BadFile, match=message):
            check_like(found, {"a": torch.ones(2)}, "f")
    with pytest.raises(BadFile, match="f: a holds something that is no finite number"):
        check_finite({"a": torch.tensor([1.0, float("nan")])}, "f")


def test_json_changed_by_hand_is_noticed_and_can_be_accepted(tmp_path):
    path = tmp_path / "x.json"
    write_object(path, {"a": 1, "b": [0.1, None, float("inf")], "c": {"2": "ü"}})
    fields = json.loads(path.read_text())
    assert read_object(path) == {"a": 1, "b": [0.1, None, "Infinity"], "c": {"2": "ü"}}
    path.write_text(json.dumps({**fields, "a": 1.0}))
    with pytest.raises(BadFile, match=r"x\.json.*checksum.*by hand, delete its 'checksum' field"):
        read_object(path)
    del fields["checksum"]
    path.write_text(json.dumps({**fields, "a": 2}))
    assert read_object(path)["a"] == 2


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe{}", b"[1]", b"[" * 10**5, b'{"a":' * 60 + b"1" + b"}" * 60]
)
def test_what_is_no_json_object_names_the_file(content, tmp_path):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(BadFile, match=r"x\.json"):
        read_object(tmp_path / "x.json")
    with pytest.raises(BadFile, match="x"):
        parse_json(b"1" * 5000, "x")


def test_a_damaged_line_is_named_and_a_cut_one_left_out(tmp_path):
    path = tmp_path / "x.jsonl"
    lines = [line_of({"k": k}) for k in range(3)]
    path.write_text("".join(lines) + lines[0][:-4])
    assert read_lines(path) == [{"k": 0}, {"k": 1}, {"k": 2}]
    path.write_text(lines[0] + lines[1].replace("1", "7", 1) + lines[2])
    with pytest.raises(BadFile, match=r"x\.jsonl, line 2 is not as it was written"):
        read_lines(path)
    assert read_lines(tmp_path / "nowhere") == []
    assert sealed(sealed({"a": 1}) | {"a": 1})["a"] == 1


@dataclass(frozen=True)
class Inner:
    x: tuple[int, float]


@dataclass(frozen=True)
class Outer:
    count: Annotated[int, whole(1, 9)]
    kind: Literal["a", "b"]
    inner: Inner | None
    rows: list[dict[str, float]]
    more: Any = 0


GOOD = {"count": 3, "kind": "a", "inner": {"x": [1, 2.5]}, "rows": [{"p": 1}]}


def test_fields_become_a_dataclass():
    assert from_fields(Outer, GOOD) == Outer(3, "a", Inner((1, 2.5)), [{"p": 1}])
    assert from_fields(Outer, GOOD | {"inner": None}).inner is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"count": 3.0}, r"count is 3\.0, expected a whole number"),
        ({"count": True}, "count is True"),
        ({"count": 10**30}, "count is a huge number"),
        ({"count": 10}, "count is 10, expected >= 1 and <= 9"),
        ({"kind": "c"}, "kind is 'c', expected one of 'a', 'b'"),
        ({"inner": {"x": [1]}}, "inner: x has 1 entries, expected 2"),
        ({"inner": 3}, "inner is 3"),
        ({"rows": [{"p": "1"}]}, r"rows\[0\]\['p'\] is '1', expected a number"),
        ({"zzz": 1}, "unknown 'zzz'"),
    ],
)
def test_fields_that_do_not_fit_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        from_fields(Outer, GOOD | change)
