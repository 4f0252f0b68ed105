#!/bin/sh
# Write .env from .env.example: with new passwords, and with the user who calls this as the owner
# of what the command-line containers write into data/.
set -eu
umask 077
cd "$(dirname "$0")/.."
if [ -e .env ]; then
    echo ".env is there already, and stays as it is; remove it to have another" >&2
    exit 1
fi

password() {
    od -An -vtx1 -N24 /dev/urandom | tr -d ' \n'
}

user=${SUDO_UID:-$(id -u)}:${SUDO_GID:-$(id -g)}
if [ "${user%%:*}" = 0 ]; then
    # No container runs as root: on behalf of root, one user of their own writes into data/.
    user=10001:10001
    chown "$user" data
fi

# In the shell itself: an argument of a program is there for all to see.
while IFS= read -r line; do
    case $line in
    *_PASSWORD=) printf '%s%s\n' "$line" "$(password)" ;;
    RESCORE_USER=*) printf 'RESCORE_USER=%s\n' "$user" ;;
    *) printf '%s\n' "$line" ;;
    esac
done <.env.example >.env.new
mv .env.new .env
