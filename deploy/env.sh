#!/bin/sh
# Create .env from .env.example, with new passwords. The user who runs this script will own the
# files that the command-line containers write to data/.
set -eu
umask 077
cd "$(dirname "$0")/.."
if [ -e .env ]; then
    echo ".env already exists and was not changed; to create a new one, remove it first" >&2
    exit 1
fi

password() {
    od -An -vtx1 -N24 /dev/urandom | tr -d ' \n'
}

user=${SUDO_UID:-$(id -u)}:${SUDO_GID:-$(id -g)}
if [ "${user%%:*}" = 0 ]; then
    # No container runs as root, so when root runs this script, another user writes to data/.
    user=10001:10001
    chown "$user" data
fi

# Use shell builtins only, because all users can see the arguments of a program.
while IFS= read -r line; do
    case $line in
    *_PASSWORD= | *_TOKEN=) printf '%s%s\n' "$line" "$(password)" ;;
    RESCORE_USER=*) printf 'RESCORE_USER=%s\n' "$user" ;;
    *) printf '%s\n' "$line" ;;
    esac
done <.env.example >.env.new
mv .env.new .env
