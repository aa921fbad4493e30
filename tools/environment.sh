# What ./demo, ./test and .ci/run need on a Debian machine; sourced by them.  Nothing here starts a service.

readonly PYTHON_AT_LEAST="3.11"

# Exit codes are those of netloom itself: 2 used wrongly, 3 could not.
refuse() { complain "$@"; exit 2; }  # MESSAGE [HINT]
fail() { complain "$@"; exit 3; }    # MESSAGE [HINT]

complain() {
    printf 'error: %s\n' "$1" >&2
    [ $# -lt 2 ] || printf 'hint: %s\n' "$2" >&2
}

need_root() {  # COMMAND...
    [ "$(id -u)" -eq 0 ] || refuse "$1 builds network namespaces, and that takes root" "sudo $*"
}

# Installs the packages that are missing, and touches nothing if none is.
need_packages() {  # PACKAGE...
    local missing=() package
    for package in "$@"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    command -v apt-get >/dev/null || fail "these are missing, and there is no apt-get: ${missing[*]}" "install them by hand"
    printf 'installing %s\n' "${missing[*]}" >&2
    apt_patiently update -q
    apt_patiently install -q -y --no-install-recommends "${missing[@]}"
}

# Another installation may hold apt's locks; apt itself waits only for some of them.
apt_patiently() {
    local output
    output=$(mktemp)
    for _ in $(seq 60); do
        if DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 "$@" </dev/null >"$output" 2>&1; then
            rm -f "$output"
            return 0
        fi
        grep -qE 'Could not get lock|Unable to (acquire|lock)' "$output" || break
        sleep 5
    done
    cat "$output" >&2
    rm -f "$output"
    fail "apt-get $* failed"
}

# .venv in the checkout holds the package (editable: changes need no new installation) and its dependencies.
# It is brought up to date when pyproject.toml or the interpreter has changed.
need_environment() {  # EXTRA, or nothing
    local extra=${1:-base} python=/usr/bin/python3 wanted
    [ -x "$python" ] || python=$(command -v python3) || fail "there is no python3" "apt-get install python3 python3-venv"
    "$python" -c "import sys; sys.exit(sys.version_info < tuple(map(int, '$PYTHON_AT_LEAST'.split('.'))))" ||
        fail "$python is older than Python $PYTHON_AT_LEAST" "Debian 12 and later have a newer one"
    local place
    for place in . .venv .venv.lock; do
        [ ! -e "$place" ] || [ -w "$place" ] || fail "$PWD/$place cannot be written, and .venv is made there" "sudo $0, or git clone $PWD ~/netloom"
    done
    wanted=$({ "$python" -VV; cat pyproject.toml; } | sha256sum)
    exec 9>.venv.lock
    flock 9
    if [ "$(cat ".venv/installed-$extra" 2>/dev/null)" != "$wanted" ]; then
        printf 'preparing %s\n' "$PWD/.venv" >&2
        [ "$(.venv/bin/python -VV 2>/dev/null)" = "$("$python" -VV)" ] || { rm -rf .venv; "$python" -m venv .venv; }
        local target=.
        [ "$extra" = base ] || target=".[$extra]"
        .venv/bin/python -m pip install --disable-pip-version-check --no-input -q -e "$target" </dev/null >&2 ||
            fail "the installation of Netloom's dependencies failed"
        printf '%s\n' "$wanted" | tee .venv/installed-base >".venv/installed-$extra"
    fi
    exec 9>&-
}
