from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.errors import ConfigError
from app.observe.pidfile import Progress, pid_file, progress_of, running_pid

ROOT = Path(__file__).parents[2]


def test_a_gateway_is_found_by_its_file_for_as_long_as_it_runs(tmp_path: Path) -> None:
    path = tmp_path / "gateway.pid"
    assert running_pid(path) is None
    with pid_file(path):
        assert running_pid(path) == os.getpid()
        with pytest.raises(ConfigError, match="another gateway runs"), pid_file(path):
            pass
    assert running_pid(path) is None
    assert not path.exists()


def test_a_file_that_was_left_behind_is_nobodys(tmp_path: Path) -> None:
    path = tmp_path / "gateway.pid"
    code = (
        "import os, sys; from pathlib import Path; from app.observe.pidfile import *\n"
        "path = Path(sys.argv[1])\nwith pid_file(path):\n  Progress(path).tell(sockets=3)\n  os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code, path], cwd=ROOT, check=False).returncode == 9
    assert path.exists()
    assert running_pid(path) is None
    with pid_file(path):
        assert running_pid(path) == os.getpid()
        assert progress_of(path) == {}


def test_what_is_left_is_the_sum_of_all_processes(tmp_path: Path) -> None:
    path = tmp_path / "gateway.pid"
    (tmp_path / "gateway.pid.1").write_text('{"sockets": 3, "generations": 1}')
    (tmp_path / "gateway.pid.2").write_text('{"sock')
    progress = Progress(path)
    progress.tell(sockets=4, generations=0)
    assert progress_of(path) == {"sockets": 7, "generations": 1}
    progress.end()
    progress.end()
    assert progress_of(path) == {"sockets": 3, "generations": 1}


def test_a_file_that_can_not_be_written_is_a_fault_of_the_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="pid_file"), pid_file(tmp_path / "no" / "folder"):
        pass
