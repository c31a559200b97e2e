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

# The whole suite in a new venv; further arguments are pip's.
test_on() { # PYTHON VENV [PIP ARGUMENTS]
  local python=$1 venv=$2
  shift 2
  "$python" -m venv --clear "$venv"
  "$venv/bin/pip" install -qq -e '.[dev]' "$@"
  "$venv/bin/python" -m pytest -q -n auto
}

# The lower bounds of pyproject.toml as exact versions.
lowest_dependencies() {
  sed -n '/^dependencies = \[/,/^\]/s/^ *"\(.*\)>=\(.*\)",$/\1==\2/p' pyproject.toml
}
