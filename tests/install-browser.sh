#!/bin/sh
# The tests of the playground drive a real browser: Debian's Chromium. Installs it where that is possible; never fails.

for name in chromium chromium-browser google-chrome; do
    if command -v "$name" >/dev/null 2>&1; then
        exit 0
    fi
done

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "Installing Chromium for the tests of the playground …"
    export DEBIAN_FRONTEND=noninteractive
    if { apt-get -qq update && apt-get -qq install --yes --no-install-recommends chromium; } >/dev/null 2>&1; then
        exit 0
    fi
    echo "Chromium could not be installed by apt-get: the tests of the playground are skipped."
else
    echo "There is no Chromium here: the tests of the playground are skipped. On Debian: apt-get install chromium"
fi
exit 0
