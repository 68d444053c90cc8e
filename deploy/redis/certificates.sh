#!/bin/sh
# Makes a certificate authority, and a certificate for a server of these names and addresses:
#
#     sh certificates.sh FOLDER NAME [NAME_OR_ADDRESS...]
#
# FOLDER/ca.key, ca.crt        the authority, made once; keep the key off the servers
# FOLDER/NAME/                 ca.crt, tls.crt, tls.key: what redis.conf wants in /etc/redis/tls
#
# Run again it makes a new certificate by the same authority. Needs OpenSSL 3.
set -eu
folder=${1:?"usage: sh certificates.sh FOLDER NAME [NAME_OR_ADDRESS...]"}
name=${2:?"usage: sh certificates.sh FOLDER NAME [NAME_OR_ADDRESS...]"}
shift 2
umask 077
mkdir -p "$folder/$name"

# A configuration without any extensions of its own.
config=$folder/openssl.cnf
printf '[req]\ndistinguished_name = name\n[name]\n' >"$config"
certificate() { # KEY CERTIFICATE OPTION...
  openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1"
  key=$1 out=$2
  shift 2
  openssl req -config "$config" -x509 -key "$key" -out "$out" \
    -addext subjectKeyIdentifier=hash -addext authorityKeyIdentifier=keyid "$@"
}

if [ ! -s "$folder/ca.key" ]; then
  certificate "$folder/ca.key" "$folder/ca.crt" -subj "/CN=simdist Redis CA" -days 3650 \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign
fi

names=
for one in "$name" "$@"; do
  case $one in
    *:* | [0-9]*.[0-9]*.[0-9]*.[0-9]*) names=$names,IP:$one ;;
    *) names=$names,DNS:$one ;;
  esac
done
certificate "$folder/$name/tls.key" "$folder/$name/tls.crt" -subj "/CN=$name" -days 825 \
  -CA "$folder/ca.crt" -CAkey "$folder/ca.key" \
  -addext basicConstraints=critical,CA:FALSE -addext keyUsage=critical,digitalSignature \
  -addext extendedKeyUsage=serverAuth,clientAuth -addext "subjectAltName=${names#,}"
cp "$folder/ca.crt" "$folder/$name/ca.crt"
chmod 644 "$folder/ca.crt" "$folder/$name/ca.crt" "$folder/$name/tls.crt"
rm "$config"
