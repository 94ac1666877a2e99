#!/usr/bin/env bash
# Sets oddkind up on the box of a station, or brings it up to date.
#
#   install.sh [options] [SOURCE]
#
# SOURCE is a wheel or a checkout; without it the checkout this script stands in, or the oddkind wheel in --wheels DIR.
#
#   --prefix DIR    where oddkind goes: /opt/oddkind
#   --state DIR     where it may write: /var/lib/oddkind
#   --config DIR    where the station file lies: /etc/oddkind
#   --bin DIR       gets a link to the command: /usr/local/bin; none: no link
#   --extras LIST   station,modbus,opcua,gpio,genicam,basler,openvino; default: station
#   --constraints FILE   versions; default: constraints.txt of the checkout
#   --wheels DIR    no network: everything from this folder, see 'pip wheel' in deploy/README.md
#   --python FILE   another Python, 3.11 or newer
#   --no-service    no user, no unit: a trial, or a box without systemd. Needs no root if it may write there
#   --rollback      back to the installation before the last one
#   --uninstall     remove what was installed; station file, state and user stay
#   --dry-run       say what would be done
#
# Each run makes an environment of its own and switches to it when it works: one that fails changes nothing, and the one
# before it stays. A station file is never overwritten.
set -euo pipefail
umask 022 # the service runs as another user than who installs

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
prefix=/opt/oddkind state=/var/lib/oddkind config=/etc/oddkind bin=/usr/local/bin units=/etc/systemd/system
extras=station user=oddkind service=1 dry="" wheels="" constraints="" python="" source="" action=install
mark=.oddkind-installation # in the prefix: this folder may be changed and removed

say() { echo "install.sh: $*"; }
fail() {
    echo "install.sh: $*" >&2
    exit 1
}
run() {
    if [ -n "$dry" ]; then
        echo "  would run: $*"
    else
        "$@"
    fi
}
# write FILE MODE GROUP: stdin becomes the file.
write() {
    cat >"$work/written"
    run install -m "$2" ${3:+-g "$3"} "$work/written" "$1"
}
systemd_runs() { [ -d /run/systemd/system ]; }

read_arguments() {
    while [ $# -gt 0 ]; do
        case "$1" in
        --prefix | --state | --config | --bin | --extras | --constraints | --wheels | --python)
            [ $# -gt 1 ] || fail "$1 needs a value; see --help"
            printf -v "${1#--}" %s "$2"
            shift
            ;;
        --no-service) service="" ;;
        --dry-run) dry=1 ;;
        --rollback | --uninstall) action="${1#--}" ;;
        -h | --help)
            sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"
            exit 0
            ;;
        -*) fail "unknown option $1; see --help" ;;
        *)
            [ -z "$source" ] || fail "one SOURCE expected, got $source and $1"
            source="$1"
            ;;
        esac
        shift
    done
    local name
    for name in prefix state config bin; do
        case "${!name}" in
        none) [ "$name" = bin ] || fail "--$name: expected a folder, got none" ;;
        / | *..*) fail "--$name: expected a folder of its own, got ${!name}" ;;
        *[!A-Za-z0-9/._+@-]*) fail "--$name: letters, digits and /._+@- only, got '${!name}'" ;;
        /*) ;;
        *) fail "--$name: expected an absolute path, got '${!name}'" ;;
        esac
    done
    [[ "$extras" =~ ^[a-z0-9,]*$ ]] || fail "--extras: expected names with commas between, got '$extras'"
}

check_rights() {
    if [ -n "$service" ]; then
        [ -n "$dry" ] || [ "$(id -u)" = 0 ] ||
            fail "needs root; for a trial without: --no-service --bin none --prefix, --state and --config in your home"
        [ "$state" = /var/lib/oddkind ] ||
            fail "--state: the service writes to /var/lib/oddkind alone; with --no-service any folder will do"
    fi
    if [ -e "$prefix/bin" ] && [ ! -e "$prefix/$mark" ]; then
        fail "$prefix/bin was not made by this script; move it away, or choose another --prefix"
    fi
}

# What is to be installed: a wheel, or a checkout copied so that building leaves nothing in it.
choose_source() {
    if [ -n "$wheels" ]; then
        [ -d "$wheels" ] || fail "--wheels: no such folder: $wheels"
        wheels="$(cd "$wheels" && pwd)"
        [ -n "$source" ] || source="$(find "$wheels" -maxdepth 1 -name 'oddkind-*.whl' | sort | tail -n 1)"
        [ -n "$source" ] || fail "--wheels: no oddkind-*.whl in $wheels; make one with 'pip wheel', or name a SOURCE"
    fi
    source="${source:-$here/..}"
    [ -e "$source" ] || fail "no such wheel or checkout: $source"
    source="$(realpath "$source")"
    if [ -d "$source" ]; then
        [ -f "$source/pyproject.toml" ] || fail "$source is no checkout of oddkind: it has no pyproject.toml"
        constraints="${constraints:-$source/constraints.txt}"
    elif [ -z "$constraints" ] && [ -f "$here/../constraints.txt" ]; then
        constraints="$(realpath "$here/../constraints.txt")"
    fi
    [ -z "$constraints" ] || [ -f "$constraints" ] || fail "--constraints: no such file: $constraints"
}

check_python() {
    local name given="$python" compiler=compiler
    for name in ${given:-python3.11 python3.12 python3.13 python3}; do
        python="$(command -v "$name")" && break
    done
    compgen -G "$wheels/hnswlib-*.whl" >/dev/null && compiler=no-compiler
    bash "$here/can-build.sh" "$python" "$compiler" || exit 1
}

# Numbers of what is installed, the oldest first.
releases() { [ ! -d "$prefix/releases" ] || find "$prefix/releases" -mindepth 1 -maxdepth 1 -printf '%f\n' | sort -n; }
running() { basename "$(readlink "$prefix/current" || true)"; }

make_environment() {
    local target="$1" wanted="$source" pip
    if [ -d "$source" ]; then
        wanted="$work/source"
        run mkdir "$wanted"
        run cp -R "$source"/{edge,calibration,export,pyproject.toml,README.md,LICENSE} "$wanted/"
    fi
    run "$python" -m venv "$target"
    pip=("$target/bin/python" -m pip --disable-pip-version-check install --quiet)
    [ -z "$wheels" ] || pip+=(--no-index --find-links "$wheels")
    [ -z "$constraints" ] || pip+=(-c "$constraints")
    say "installing $source with ${extras:-no extras} into $target"
    HNSWLIB_NO_NATIVE=1 run "${pip[@]}" "$wanted${extras:+[$extras]}" || fail "pip failed; nothing was changed"
    run "$target/bin/oddkind" --version || fail "the new installation does not run; nothing was changed"
}

# One rename: whoever starts oddkind finds the old one or the new one.
switch_to() {
    run ln -sfn "releases/$1" "$prefix/.current"
    run mv -T "$prefix/.current" "$prefix/current"
    run mkdir -p "$prefix/bin"
    run ln -sfn ../current/bin/oddkind "$prefix/bin/oddkind"
}

# All but the two that are named.
forget_others() {
    local number
    for number in $(releases); do
        [ "$number" = "$1" ] || [ "$number" = "$2" ] || run rm -rf "${prefix:?}/releases/$number"
    done
}

link_command() {
    if [ -e "$bin/oddkind" ] && [ ! -L "$bin/oddkind" ]; then
        say "$bin/oddkind is there, not a link, and stays as it is"
        return
    fi
    run mkdir -p "$bin"
    run ln -sfn "$prefix/bin/oddkind" "$bin/oddkind"
}

install_oddkind() {
    local number target before
    choose_source
    check_python
    before="$(running)"
    number="$(($(releases | tail -n 1) + 1))"
    target="$prefix/releases/$number"
    work="$(mktemp -d)"
    trap '[ "${done:-}" ] || [ -n "$dry" ] || rm -rf "$target"; rm -rf "$work"' EXIT
    run mkdir -p "$prefix/releases"
    run touch "$prefix/$mark"
    make_environment "$target"
    done=1
    switch_to "$number"
    forget_others "$number" "$before"
    [ "$bin" = none ] || link_command
    [ -z "$service" ] || make_user
    make_folders
    write_station
    [ -z "$service" ] || install_units
    say_what_next
}

make_user() {
    if ! getent passwd "$user" >/dev/null; then
        command -v useradd >/dev/null || fail "useradd is missing; on Debian: apt install passwd"
        run useradd --system --user-group --home-dir "$state" --shell /usr/sbin/nologin "$user"
    fi
}

make_folders() {
    if [ -n "$service" ]; then
        run install -d -m 0750 -o "$user" -g "$user" "$state"
        run install -d -m 0750 -g "$user" "$config"
        [ -e "$config/environment" ] || write "$config/environment" 0600 <<<'# CAMERA_PASSWORD=... and the like, a NAME=value a line'
    else
        run mkdir -p "$state" "$config"
    fi
}

write_station() {
    local metrics="  # http: {port: 8080}   # what it sees, metrics and health; needs the extra: station"
    if [ -e "$config/station.yaml" ]; then
        say "$config/station.yaml is there and stays as it is"
        return
    fi
    [[ ",$extras," != *,station,* ]] || metrics="  http: {port: 8080}   # what it sees, metrics and health, for this machine alone"
    write "$config/station.yaml" 0640 "${service:+$user}" <<END
# 'oddkind station init FILE' writes an example with every key. Check this one after every change:
#   oddkind station check $config/station.yaml
bundle: $state/bundle   # bring one that 'oddkind calibrate' wrote
cameras:
  - source: "0"   # better a name that stays: /dev/v4l/by-id/...
    wait_for_camera: true
outputs:
  records: {file: $state/results.jsonl, daily: true, keep: 90}
$metrics
END
}

install_units() {
    if ! systemd_runs && [ ! -d "$units" ]; then
        say "no systemd here, no unit installed; run: $prefix/bin/oddkind run --station $config/station.yaml"
        return
    fi
    local unit
    for unit in oddkind.service oddkind@.service; do
        sed "s|/opt/oddkind/|$prefix/|g;s|/etc/oddkind/|$config/|g" "$here/$unit" | write "$units/$unit" 0644
    done
    if systemd_runs; then
        run systemctl daemon-reload
        run systemctl try-restart oddkind.service 'oddkind@*.service'
    else
        say "systemd does not run here: units are in $units, not loaded"
    fi
}

say_what_next() {
    say "installed: $prefix/bin/oddkind${dry:+ (not really: dry run)}"
    say "next: bring a bundle to $state/bundle, set the source in $config/station.yaml, then"
    say "  $prefix/bin/oddkind station check $config/station.yaml"
    if [ -n "$service" ] && systemd_runs; then
        say "  systemctl enable --now oddkind"
    fi
}

rollback() {
    [ -L "$prefix/current" ] || fail "nothing is installed in $prefix"
    local before previous
    before="$(running)"
    previous="$(releases | grep -vx "$before" | tail -n 1 || true)"
    [ -n "$previous" ] || fail "there is no installation before this one in $prefix/releases"
    switch_to "$previous"
    if [ -n "$service" ] && systemd_runs; then
        run systemctl try-restart oddkind.service 'oddkind@*.service'
    fi
    say "back at installation $previous; another --rollback returns to $before"
}

uninstall() {
    [ -e "$prefix/$mark" ] || fail "nothing is installed in $prefix by this script"
    if [ -n "$service" ] && [ -e "$units/oddkind.service" ]; then
        if systemd_runs; then
            run systemctl disable --now oddkind.service
            run systemctl stop 'oddkind@*.service'
        fi
        run rm -f "$units/oddkind.service" "$units/oddkind@.service"
        ! systemd_runs || run systemctl daemon-reload
    fi
    [ "$(readlink "$bin/oddkind" 2>/dev/null)" != "$prefix/bin/oddkind" ] || run rm -f "$bin/oddkind"
    run rm -rf "${prefix:?}/releases" "$prefix/current" "$prefix/bin" "$prefix/$mark"
    [ -n "$dry" ] || rmdir --ignore-fail-on-non-empty "$prefix"
    say "removed $prefix; these stay: $config, $state${service:+, user $user}"
}

read_arguments "$@"
check_rights
case "$action" in
install) install_oddkind ;;
rollback) rollback ;;
uninstall) uninstall ;;
esac
