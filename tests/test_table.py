"""Tables read one row at a time: the same rows and the same errors as those of a file that is read whole."""

import codecs
import gzip
import json
import tracemalloc
from pathlib import Path

import pytest

from interalign.errors import ConfigError
from interalign.people.table import holds_json_lines, read_table, stream_lines

A, B = '{"prompt": "a"}', '{"prompt": "b"}'
LINES = {
    "two rows": f"{A}\n{B}\n",
    "no last line end": f"{A}\n{B}",
    "blank lines": f"\n  \n{A}\n\n{B}\n\n",
    "a bad row": f"{A}\n{{oops\n{B}\n",
    "Windows line ends": f"{A}\r\n{B}\r\n",
    "old Mac line ends": f"{A}\r{B}\r",
    "byte order mark": f"\ufeff{A}\n{B}\n",
    "separators of Unicode in a later row": f'{A}\n{{"prompt": "x\u2028y\u0085z"}}\n',
    "texts": '"one"\n"two"\n',
    "numbers later on": f"{A}\n1\nNaN\nnull\n",
    "deep nesting": f"{A}\n{'[' * 100_000}\n{B}\n",
    "one row": A,
}
OTHERS = {
    "separator of Unicode in the first row": '{"prompt": "x\u2028y"}',
    "an object over several lines": '{\n"prompt": "a"\n}',
    "an array": f"[{A}, {B}]",
    "an array a line": f"[{A}]\n[{B}]\n",
    "a table": "prompt,reply\na,b\n",
    "a table in quotes": '"prompt","reply"\n"a","b"\n',
    "nothing": "",
    "blanks": " \n \n",
    "a blank line of Unicode before": f"\u00a0\n{A}\n",
}


@pytest.mark.parametrize("content", LINES.values(), ids=LINES)
def test_lines_read_one_at_a_time_are_the_rows_of_the_whole_file(content: str, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(content.encode())
    assert holds_json_lines(file)
    assert list(stream_lines(file)) == read_table(file)


@pytest.mark.parametrize("content", OTHERS.values(), ids=OTHERS)
def test_what_is_not_json_lines_by_its_first_line_is_read_whole(content: str, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(content.encode())
    assert not holds_json_lines(file)


@pytest.mark.parametrize(
    "content",
    [gzip.compress(A.encode()), A.encode("utf-16"), b"PAR1" + A.encode(), b"\xff" + A.encode()],
    ids=["gzip", "UTF-16", "Parquet", "no text"],
)
def test_packed_files_are_read_whole(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "rows").write_bytes(content)
    assert not holds_json_lines(tmp_path / "rows")
    assert not holds_json_lines(tmp_path / "missing")
    assert not holds_json_lines(tmp_path)


@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8], ids=["no mark", "byte order mark"])
@pytest.mark.parametrize("broken", [b"\xff", b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98", b"\xed\xa0\x80"])
@pytest.mark.parametrize("end", [b"", b"\n", b"x\n"])
def test_bytes_that_are_no_text_are_told_with_their_place_in_the_file(
    mark: bytes, broken: bytes, end: bytes, tmp_path: Path
) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(mark + f"{A}\n{A}\n".encode() + b'{"prompt": "' + broken + end)
    with pytest.raises(ConfigError) as whole:
        read_table(file)
    with pytest.raises(ConfigError) as streamed:
        list(stream_lines(file))
    assert str(streamed.value) == str(whole.value)


def test_a_row_is_all_that_is_held_at_a_time(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    with file.open("w") as rows:
        rows.writelines(json.dumps({"prompt": "word " * 2_000}) + "\n" for _ in range(1_000))  # 10 MB
    tracemalloc.start()
    assert sum(1 for _ in stream_lines(file)) == 1_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 500_000
