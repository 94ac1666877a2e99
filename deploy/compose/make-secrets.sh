#!/usr/bin/env bash
# Makes what the services of compose.yaml prove themselves by, once; what is there stays.
#
#   make-secrets.sh [DIR]   secrets/ beside this script unless you say otherwise
#
# The folder is for its owner alone. The files in it are readable for the users in the containers, which see just these.
set -euo pipefail
umask 022
folder="${1:-$(dirname "${BASH_SOURCE[0]}")/secrets}"
mkdir -p "$folder"
chmod 700 "$folder"

secret() { [ -s "$folder/$1" ] || head -c 24 /dev/urandom | base64 | tr '+/' '-_' >"$folder/$1"; }

# The word is not given on a command line, where others could see it.
hash_password() {
    (
        umask 022
        printf 'station:%s\n' "$(cat "$folder/mqtt.password")" >"$folder/mosquitto.passwd"
    )
    if command -v mosquitto_passwd >/dev/null; then
        mosquitto_passwd -U "$folder/mosquitto.passwd"
    else
        docker run --rm --user "$(id -u):$(id -g)" -v "$(realpath "$folder"):/secrets" eclipse-mosquitto:2 \
            mosquitto_passwd -U /secrets/mosquitto.passwd
    fi
    chmod 644 "$folder/mosquitto.passwd"
}

secret http.token
secret mqtt.password
[ -s "$folder/mosquitto.passwd" ] || hash_password || {
    rm -f "$folder/mosquitto.passwd"
    echo "make-secrets.sh: neither mosquitto_passwd nor docker could make $folder/mosquitto.passwd" >&2
    exit 1
}
echo "make-secrets.sh: $folder is there"
