#!/bin/sh
# Makes what redis.conf wants in /etc/redis/secrets, and the passwords:
#
#     sh secrets.sh FOLDER
#
# FOLDER/simdist-password, search-password, admin-password, replication-password   for those who connect
# FOLDER/users.acl          the users, with digests of these passwords
# FOLDER/replication.conf   as whom a replica comes to its primary
#
# A password that is there already is kept: to change one, remove its file and run this again.
set -eu
folder=${1:?"usage: sh secrets.sh FOLDER"}
umask 077
mkdir -p "$folder"

rules=$(grep '^user ' "$(dirname "$0")/users.acl")
for user in simdist search admin replication; do
  file=$folder/$user-password
  [ -s "$file" ] || openssl rand -hex 32 >"$file"
  digest=$(tr -d '\n' <"$file" | openssl dgst -sha256 -r | cut -d ' ' -f 1)
  rules=$(printf '%s\n' "$rules" | sed "s/@$user@/$digest/")
done
printf '%s\n' "$rules" >"$folder/users.acl"
printf 'masteruser replication\nmasterauth %s\n' "$(cat "$folder/replication-password")" >"$folder/replication.conf"
