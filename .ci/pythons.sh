# shellcheck shell=bash
# The CPythons of this machine. Sourced by .ci/run.

# The path of a CPython, of the PATH or of pyenv; fails if there is none.
find_python() {
  local python
  for python in "python$1" "$HOME"/.pyenv/versions/"$1".*/bin/python; do
    if "$python" -c "import sys; assert sys.version.startswith('$1.')" 2>/dev/null; then
      command -v "$python"
      return
    fi
  done
  return 1
}

# A new venv with the package and its tools; further arguments are pip's.
make_venv() { # PYTHON VENV [PIP ARGUMENTS]
  local python=$1 venv=$2
  shift 2
  "$python" -m venv --clear "$venv"
  "$venv/bin/pip" install -qq -e '.[dev]' "$@"
}

# The whole suite, and how much of the package it runs: lines and branches.
test_with_coverage() { # VENV
  "$1/bin/coverage" erase
  "$1/bin/coverage" run -m pytest -q -n auto
  "$1/bin/coverage" combine -q
  "$1/bin/coverage" report # fails below the share in pyproject.toml
}

# The lower bounds of pyproject.toml as exact versions, those of the optional parts too.
lowest_dependencies() {
  python3 - <<'END'
import re, tomllib
with open("pyproject.toml", "rb") as file:
    project = tomllib.load(file)["project"]
extras = project["optional-dependencies"]
for requirement in {*project["dependencies"], *extras["certificate"], *extras["redis"]}:
    name, lowest = re.fullmatch(r"([\w-]+)(?:\[\w+\])?>=([\d.]+)", requirement).groups()
    print(f"{name}=={lowest}")
END
}
