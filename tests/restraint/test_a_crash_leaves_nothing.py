"""What goes wrong writes nothing of a face or a key anywhere: no memory image, no values in what is printed."""

import subprocess
import sys

_CRASHES = """
import os, sys
from facefare.cli import command_line
root = command_line(())
@root.command("crash")
def crash():
    secret = "the reference of somebody"
    open("running", "w").close()
    if {how!r} == "abort":
        os.abort()
    raise RuntimeError("something unforeseen")
sys.argv = ["facefare", "crash"]
root()
"""


def run(how, folder):
    limits = "ulimit -c unlimited; exec "
    command = f"{limits} {sys.executable} -c '{_CRASHES.format(how=how).replace(chr(39), chr(34))}'"
    return subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True, check=False)


def test_no_process_of_ours_leaves_an_image_of_its_memory(tmp_path):
    ended = run("abort", tmp_path)
    assert ended.returncode != 0
    assert [file.name for file in tmp_path.iterdir()] == ["running"]
    assert "core dumped" not in ended.stderr


def test_what_an_unforeseen_error_prints_holds_no_values(tmp_path):
    ended = run("raise", tmp_path)
    assert "something unforeseen" in ended.stderr
    assert "somebody" not in ended.stderr.replace('secret = "the reference of somebody"', "")
