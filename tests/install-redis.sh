#!/bin/sh
# Some tests need a Redis that speaks TLS, which the server of the tests does not: Debian's. Unpacks it beside the
# environment, without installing it, so that nothing else finds it; never fails.
# usage: tests/install-redis.sh PYTHON   (of the environment that it is kept with)

folder=$("${1:-python3}" -c 'import sys; print(sys.prefix)')/share/redis
if [ -e "$folder/complete" ]; then
    exit 0
fi
if ! command -v apt-get >/dev/null 2>&1 || ! command -v dpkg-deb >/dev/null 2>&1; then
    echo "There is no apt-get here: without a redis-server on the PATH its tests of TLS are skipped."
    exit 0
fi
echo "Fetching Redis for its tests of TLS …"
rm -rf "$folder"
mkdir -p "$folder/packages"
cd "$folder/packages" || exit 0

fetch() {
    libraries=$(apt-cache depends redis-server redis-tools | sed -n 's/.*Depends: \(lib[a-z0-9.+-]*\)$/\1/p' | grep -v '^libc6$' | sort -u)
    # shellcheck disable=SC2086 # They are several words.
    apt-get -qq -o APT::Sandbox::User=root download redis-server redis-tools $libraries
}

if { fetch || { [ "$(id -u)" = 0 ] && apt-get -qq update && fetch; }; } >/dev/null 2>&1; then
    for package in *.deb; do
        dpkg-deb -x "$package" "$folder" || exit 0
    done
    rm -rf "$folder/packages"
    touch "$folder/complete"
else
    echo "Redis could not be fetched by apt-get: its tests of TLS are skipped, unless there is one on the PATH."
fi
exit 0
