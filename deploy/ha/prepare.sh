#!/bin/sh
# Makes what the containers of deploy/ha need and nobody may commit: a certificate authority, certificates, passwords.
# Usage: deploy/ha/prepare.sh [FOLDER]. Files that are there are kept; remove the folder to make all of them anew.
set -eu
umask 022
folder=${1:-$(dirname "$0")/secrets}
mkdir -p "$folder"
# Containers run under other users and mount single files: the folder keeps everybody else on this host out.
chmod 700 "$folder"
cd "$folder"

quietly() {
    said=$("$@" 2>&1) || { echo "$said" >&2; exit 1; }
}

if [ ! -e ca.pem ]; then
    quietly openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 -sha256 -subj "/CN=shiplog-ha" \
        -keyout ca.key -out ca.pem
    chmod 600 ca.key
fi

# certificate NAME: NAME.key and NAME.crt, for the host of that name; brokers are clients of each other, too.
certificate() {
    [ -e "$1.crt" ] && return
    quietly openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -sha256 -subj "/CN=$1" -keyout "$1.key" -out "$1.csr"
    printf 'subjectAltName=DNS:%s,DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n' "$1" >"$1.ext"
    quietly openssl x509 -req -in "$1.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -days 825 -sha256 \
        -extfile "$1.ext" -out "$1.crt"
    rm "$1.csr" "$1.ext"
    chmod 644 "$1.key"
}

for name in kafka-1 kafka-2 kafka-3 admin; do
    certificate "$name"
done
for broker in kafka-1 kafka-2 kafka-3; do
    cat "$broker.key" "$broker.crt" ca.pem >"$broker.pem" # as Kafka's PEM key store wants them
done
for login in topics listener materializer gateway operator auditor; do
    [ -e "$login.password" ] || openssl rand -hex 24 >"$login.password"
done
echo "made in $(pwd)"
