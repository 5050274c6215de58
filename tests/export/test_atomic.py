import fcntl
import os
from pathlib import Path

import pytest

from bulkfetch.errors import SinkError
from bulkfetch.export.atomic import check_target, private_directory, replacing


def test_a_failed_block_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "o.csv"
    target.write_text("old")
    with pytest.raises(RuntimeError), replacing(target) as temporary:
        temporary.write_text("ne")
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["o.csv"]
    assert target.read_text() == "old"


def test_a_system_error_of_the_block_is_one_of_the_output(tmp_path: Path) -> None:
    with (
        pytest.raises(SinkError, match=r"o\.csv cannot be written: .* space"),
        replacing(tmp_path / "o.csv"),
    ):
        raise OSError(28, os.strerror(28))
    assert not list(tmp_path.iterdir())


def test_what_a_killed_run_left_is_cleared_away(tmp_path: Path) -> None:
    (tmp_path / ".o.csv.bulkfetch-part").write_text("half a li")
    (tmp_path / ".o.csv.bulkfetch-try").write_text("")
    check_target(tmp_path / "o.csv")
    with replacing(tmp_path / "o.csv") as temporary:
        assert temporary.read_text() == ""
        assert temporary.stat().st_mode & 0o777 == 0o600
        temporary.write_text("new")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"o.csv": "new"}


def test_what_another_run_is_writing_is_left_alone(tmp_path: Path) -> None:
    with replacing(tmp_path / "o.csv") as temporary:
        temporary.write_text("first")
        check_target(tmp_path / "o.csv")
        with pytest.raises(SinkError, match="Another run"), replacing(tmp_path / "o.csv"):
            pytest.fail("both write")
    assert (tmp_path / "o.csv").read_text() == "first"


def test_a_link_in_the_temporary_files_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / ".o.csv.bulkfetch-part").symlink_to(tmp_path / "victim")
    with pytest.raises(SinkError), replacing(tmp_path / "o.csv"):
        pytest.fail("followed")
    assert (tmp_path / "victim").read_text() == "precious"


def test_a_link_as_the_target_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "o.csv").symlink_to(tmp_path / "elsewhere" / "o.csv")
    with replacing(tmp_path / "o.csv") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "o.csv").is_symlink()
    assert (tmp_path / "elsewhere" / "o.csv").read_text() == "new"


def test_the_lock_is_held_while_a_block_replaces_the_file_itself(tmp_path: Path) -> None:
    with replacing(tmp_path / "o.csv") as temporary:
        other = tmp_path / "made elsewhere"
        other.write_text("new")
        other.replace(temporary)
    assert (tmp_path / "o.csv").read_text() == "new"
    with (tmp_path / "o.csv").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_private_directory_is_empty_at_first_and_gone_at_last(tmp_path: Path) -> None:
    left = tmp_path / "scratch"
    (left / "deep").mkdir(parents=True)
    (left / "deep" / "spill").write_text("gigabytes")
    with private_directory(left) as directory:
        assert not list(directory.iterdir())
        assert directory.stat().st_mode & 0o777 == 0o700
        (directory / "spill").write_text("more")
    assert not left.exists()
