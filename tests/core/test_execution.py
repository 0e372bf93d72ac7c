from pathlib import Path

import pytest

from pipeline.core.execution import Execution


@pytest.fixture
def result(tmp_path: Path) -> Path:
    path = tmp_path / "weights"
    path.write_bytes(b"weights")
    return path


def test_an_execution_is_restored_from_its_file(result: Path, tmp_path: Path) -> None:
    execution = Execution.start().add_end().add_end()
    execution.write(tmp_path / "execution.json", result)
    assert Execution.read(tmp_path / "execution.json", result) == execution
    assert execution.started_ms <= execution.ended_ms[0] <= execution.ended_ms[1]


def test_the_execution_of_other_files_is_unknown(result: Path, tmp_path: Path) -> None:
    Execution.start().write(tmp_path / "execution.json", result)
    result.write_bytes(b"restored by DVC")
    assert Execution.read(tmp_path / "execution.json", result) is None


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"result.sha256": 1}', "\0"])
def test_a_missing_or_unreadable_execution_is_unknown(
    result: Path, tmp_path: Path, content: str | None
) -> None:
    if content is not None:
        (tmp_path / "execution.json").write_text(content)
    assert Execution.read(tmp_path / "execution.json", result) is None


def test_no_two_executions_are_the_same() -> None:
    assert Execution.start().id != Execution.start().id
