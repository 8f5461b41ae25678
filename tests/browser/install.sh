#!/bin/sh
# Install a Chromium for the browser tests where that takes no question: as root, with apt-get.
set -eu
for name in chromium chromium-browser google-chrome; do
    if command -v "$name" >/dev/null 2>&1; then exit 0; fi
done
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "no Chromium, and no root or apt-get to install one: the browser tests will be skipped"
    exit 0
fi
echo "installing Chromium for the browser tests"
log=$(mktemp)
if ! { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        chromium fonts-dejavu-core; } >"$log" 2>&1; then
    tail -n 3 "$log"
    echo "Chromium could not be installed: the browser tests will be skipped"
fi
rm -f "$log"
